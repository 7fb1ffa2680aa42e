"""Measures what HeadMeter costs, as a share of the PPO update of a loop that uses it.

The loop and the same loop without the meter take turns, update by update, with the same data, so that their
ratio holds on any machine. Policies of two sizes, with eight heads under masks.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

from rl_exporter.integrations.torch import HeadMeter

SIZES = {"op": 6, "slot": 3, "blueprint": 13, "style": 4, "tempo": 3, "target": 3, "speed": 4, "curve": 5}
STEPS, MINIBATCHES, EPOCHS, FEATURES = 2048, 8, 4, 64
PAIRS = 20


class Policy(nn.Module):
    """Two layers and one row of logits for all heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.logits = nn.Linear(width, sum(SIZES.values()))

    def forward(self, observations: Tensor) -> Tensor:
        """Logits (S, Σn)."""
        out: Tensor = self.logits(self.body(observations))
        return out


class Loop:
    """PPO's updates of one policy over a rollout that stays the same; with or without a meter."""

    def __init__(self, width: int, *, metered: bool) -> None:
        torch.manual_seed(0)
        self._policy = Policy(width)
        self._optimizer = torch.optim.Adam(self._policy.parameters(), 1e-4)
        self._meter = HeadMeter(SIZES) if metered else None
        self._observations = torch.randn(STEPS, FEATURES)
        self._masks = torch.rand(STEPS, sum(SIZES.values())) < 0.8
        self._masks[:, torch.tensor(list(SIZES.values())).cumsum(0) - 1] = True
        self._actions = torch.stack([torch.full((STEPS,), size - 1) for size in SIZES.values()], 1)
        self._old = torch.full((STEPS, len(SIZES)), -1.0)
        self._advantages = torch.randn(STEPS)

    def update(self) -> float:
        """Run the epochs of one update. Returns its seconds."""
        started = time.perf_counter()
        for _ in range(EPOCHS):
            for index in torch.randperm(STEPS).chunk(MINIBATCHES):
                self._step(index)
            if self._meter is not None:
                self._meter.end_epoch()
        if self._meter is not None:
            self._meter.result()
        return time.perf_counter() - started

    def _step(self, index: Tensor) -> None:
        masks, advantages = self._masks[index], self._advantages[index].unsqueeze(1)
        logits = self._policy(self._observations[index])
        scores = torch.where(masks, logits, -1e8)
        heads = [
            torch.distributions.Categorical(logits=part, validate_args=False)
            for part in scores.split(list(SIZES.values()), 1)
        ]
        log_probs = torch.stack([head.log_prob(self._actions[index, i]) for i, head in enumerate(heads)], 1)
        entropy = torch.stack([head.entropy() for head in heads], 1)
        ratio = (log_probs - self._old[index]).exp()
        surrogate = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        loss = -surrogate.mean() - 0.01 * entropy.mean()
        if self._meter is not None:
            self._meter.add(logits, masks, log_probs=log_probs, old_log_probs=self._old[index])
        self._optimizer.zero_grad()
        loss.backward()
        if self._meter is not None:
            self._meter.gradients(self._policy.logits)
        nn.utils.clip_grad_norm_(self._policy.parameters(), 0.5)
        self._optimizer.step()


def main() -> None:
    """Measure and print the shares."""
    torch.set_num_threads(1)
    print(
        f"{STEPS} steps, {MINIBATCHES} minibatches, {EPOCHS} epochs, {len(SIZES)} heads; "
        f"medians of {PAIRS} pairs"
    )
    for width in (128, 512):
        with_meter, without = Loop(width, metered=True), Loop(width, metered=False)
        for loop in (with_meter, without):
            loop.update()
        shares = [with_meter.update() / without.update() - 1 for _ in range(PAIRS)]
        low, middle, high = statistics.quantiles(shares, n=4)
        print(f"  {width} units: {middle:6.1%} of the update without it (quartiles {low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
