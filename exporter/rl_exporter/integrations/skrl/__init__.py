"""skrl: every action head of a categorical policy that PPO or A2C trains, from one line."""

try:
    import skrl.agents.torch  # noqa: F401 - all that follows needs it
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "skrl":
        raise
    raise ImportError('rl_exporter.integrations.skrl needs skrl; pip install "skrl[torch]"') from error

from rl_exporter.integrations.skrl.measurement import Measurement, measure
from rl_exporter.integrations.skrl.spaces import action_heads

__all__ = ["Measurement", "action_heads", "measure"]
