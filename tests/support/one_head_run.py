"""A run of one head, whose clock moves with its updates."""

from rl_exporter import Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.collector import Renderer


class OneHeadRun:
    """An update every ten seconds."""

    def __init__(self, head, resumed=None):
        self.now = 1000.0
        self.aggregator = SanctumAggregator(
            Heads([head]), RunInfo("run"), resumed=resumed, clock=lambda: self.now
        )
        self._name = head.name

    def after(self, *measured):
        """The reading of the head after these updates."""
        for one in measured:
            self.now += 10.0
            self.aggregator.handle_ppo_update(PPOUpdatePayload(heads={self._name: one}))
        return self.snapshot.tamiyo.readings[self._name]

    @property
    def snapshot(self):
        return self.aggregator.snapshot()

    def body(self):
        return Renderer(self.aggregator.snapshot).render("")[0].decode()
