"""RLlib: the entropy of every action head of PPO, from its learners to ``/metrics`` on the driver."""

try:
    from rl_exporter.integrations.rllib.callback import HeadEntropyCallback
    from rl_exporter.integrations.rllib.learner import HeadMeterMixin, HeadPPOTorchLearner
    from rl_exporter.integrations.rllib.results import ResultRecorder, heads_of
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"gymnasium", "ray", "tree"}:
        raise
    raise ImportError("rl_exporter.integrations.rllib needs RLlib; pip install 'ray[rllib]' torch") from error

__all__ = ["HeadEntropyCallback", "HeadMeterMixin", "HeadPPOTorchLearner", "ResultRecorder", "heads_of"]
