"""``make rescue``: a head of a run collapses, its entropy controller brings it back, and no page arrives."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rl_exporter.health import is_blind
from stack.processes import Process, Stack, free_address
from stack.servers import MissingServerError
from stack.show import Scene, Transcript, perform

HEAD, CRITICAL = "blueprint", 0.25

RESCUE = (
    *("--env", "heads", "--env-arg", f"paid_head={HEAD}"),
    *("--env-arg", "safe_pay=0.9", "--env-arg", "contexts=8"),
    *("--num-envs", "8", "--rollout-steps", "32", "--epochs", "4", "--minibatches", "4", "--updates", "50"),
    *("--gamma", "0.5", "--critic", "shared", "--learning-rate", "5e-3"),
    *("--learning-rate-schedule", "constant", "--entropy-schedule", "constant"),
    *("--entropy-coef", "0.01", "--entropy-multiplier", f"{HEAD}=0", "--run-id", "rescue"),
    *("--entropy-controller", "on", "--entropy-target", f"{HEAD}=0.4"),
)
"""Options of a run whose head falls for the action that always pays 0.9, before it finds that another pays 1 in
each context. Without the controller it stays there, at a return of 14.4.
"""

_RUN = "rescue"
_SOON = 15
"""Updates within which the head has to be back."""


@dataclass
class Story:
    """What has happened so far, told from the lines of ``--log-json``."""

    fell: int | None = None
    lowest: float = 1.0
    acted: int | None = None
    back: int | None = None
    settled: int | None = None
    coefficient: float = 0.0
    _former: float = field(default=0.0, repr=False)

    def tell(self, line: dict[str, object]) -> Iterator[str]:
        """What one more update adds, as people read it."""
        update = int(str(line["update"]))
        ratio, applied = (_of_head(line, name) for name in (_RATIO, _APPLIED))
        if ratio is None or applied is None:
            return
        sees = not is_blind(*(_of_head(line, name) for name in (_NATS, _SHARE)))
        self.coefficient = max(self.coefficient, applied)
        if self.fell is None and ratio <= CRITICAL and not sees:
            self.fell = update
            yield f"FALLS     update {update}: {HEAD} is at {ratio:.3f} of its maximum entropy, and blind"
        if self.fell is not None and self.back is None:
            self.lowest = min(self.lowest, ratio)
        if self.acted is None and applied > 0.0:
            self.acted = update
            yield f"CAUGHT    update {update}: its coefficient rises from 0 to {applied:.2f}"
        if self.fell is not None and self.back is None and (ratio > CRITICAL or sees):
            self.back = update
            how = f"is at {ratio:.2f} again" if ratio > CRITICAL else "decides by the state now"
            yield f"BACK      update {update}: {HEAD} {how}, its lowest was {self.lowest:.3f}"
        if self.back is not None and self.settled is None and self._former > applied == 0.0:
            self.settled = update
            yield f"LET GO    update {update}: it decides by the state, and its coefficient is 0 again"
        self._former = applied

    @property
    def rescued(self) -> bool:
        """Whether the head fell, was caught, and came back soon."""
        return self.fell is not None and self.back is not None and self.back - self.fell <= _SOON


_RATIO = "rl_policy_head_choice_entropy_ratio"
_NATS, _SHARE = "rl_policy_head_state_information_nats", "rl_policy_head_state_information_ratio"
_APPLIED = "rl_policy_head_entropy_coefficient_applied"


def _of_head(line: dict[str, object], name: str) -> float | None:
    values = line.get(name)
    value = values.get(HEAD) if isinstance(values, dict) else None
    return None if value is None else float(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0 if the head came back and nobody was paged."""
    return perform("rescue", __doc__, _rescue, _no_servers, arguments)


def _no_servers(_options: argparse.Namespace, _training: Sequence[str], error: MissingServerError) -> int:
    sys.stderr.write(f"rescue: error: {error}\n")
    return 2


def _rescue(scene: Scene) -> int:
    options = scene.options
    with Stack(scene.folder, scene.binaries, faster=options.faster) as stack:
        transcript = scene.begin(stack)
        address, log = free_address(), scene.folder / "log.jsonl"
        stack.list_target(_RUN, address)
        shown = (*RESCUE, "--pace", f"{options.pace:g}", *scene.training)
        transcript.show(f"$ rl-train {shlex.join(shown)}")
        quiet = ("--listen", address, "--log-json", str(log), "--quiet")
        trainer = stack.start("trainer", sys.executable, "-m", "rl_training", *shown, *quiet, relayed=True)
        transcript.relay(trainer)
        story = _follow(trainer, log, transcript)
        status = trainer.popen.wait()
        paged = transcript.has(f"CRITICAL  Head {HEAD}")
        transcript.show(_summary(story, paged=paged))
        return status or int(paged or not story.rescued)


def _follow(trainer: Process, log: Path, transcript: Transcript) -> Story:
    """Tell what the run logs, until it ends."""
    story, seen, ended = Story(), 0, False
    while not ended:
        ended = trainer.popen.poll() is not None  # before the last look, so that it misses no line
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        for line in whole[seen:]:
            for told in story.tell(json.loads(line)):
                transcript.show(told)
        seen = len(whole)
        time.sleep(0.2)
    return story


def _summary(story: Story, *, paged: bool) -> str:
    if story.fell is None:
        return f"{HEAD} did not fall"
    if story.back is None:
        return f"{HEAD} fell, and did not come back"
    pages = "a page arrived all the same" if paged else "nobody was paged"
    return (
        f"{HEAD} fell to {story.lowest:.3f} and was back after {story.back - story.fell} updates, "
        f"with a coefficient of {story.coefficient:.2f} at most; {pages}"
    )


if __name__ == "__main__":
    sys.exit(main())
