"""TorchRL: every action head of a policy that a PPO loss trains, from one forward hook."""

try:
    import torchrl.objectives  # noqa: F401 - all that follows needs it
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"torchrl", "tensordict"}:
        raise
    raise ImportError("rl_exporter.integrations.torchrl needs TorchRL; pip install torchrl") from error

from rl_exporter.integrations.torchrl.control import entropy_coefficients, set_entropy_coefficients
from rl_exporter.integrations.torchrl.hook import HeadEntropyHook
from rl_exporter.integrations.torchrl.specs import action_heads

__all__ = ["HeadEntropyHook", "action_heads", "entropy_coefficients", "set_entropy_coefficients"]
