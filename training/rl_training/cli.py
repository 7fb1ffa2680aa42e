"""The console script ``rl-train``: options, and one line for each that is wrong."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rl_exporter.cli import OneLineParser
from rl_exporter.collector import DISTRIBUTION
from rl_exporter.listen import ListenAddress, parse_listen_address

DEFAULT_EPISODES = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, 1 for a failed run, 2 for bad input."""
    options = parser().parse_args(arguments)
    if find_spec("torch") is None:
        sys.stderr.write(
            "rl-train: error: torch is not installed; pip install 'rl-policy-exporter[training]'\n"
        )
        return 2
    from rl_training.app import BadInputError, run  # noqa: PLC0415 - torch takes seconds to load; --help must not

    try:
        return run(options)
    except BadInputError as error:
        sys.stderr.write(f"rl-train: error: {error}\n")
        return 2


def parser() -> argparse.ArgumentParser:
    """The options of ``rl-train``."""
    root = OneLineParser(
        prog="rl-train",
        description="Train a PPO policy with several action heads; /metrics shows every head's entropy.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=version(DISTRIBUTION))
    run = root.add_argument_group("run")
    run.add_argument("--env", default="heads", metavar="NAME", help="heads, or a registered Gymnasium id")
    run.add_argument("--env-arg", action="append", default=[], type=_key_value, metavar="KEY=VALUE",
                     help="option of the environment; may be repeated")  # fmt: skip
    run.add_argument("--episodes", type=_positive, metavar="N", help="every parallel environment finishes N")
    run.add_argument("--updates", type=_positive, metavar="N", help="end after N updates")
    run.add_argument("--num-envs", type=_positive, default=8, metavar="N", help="parallel environments")
    run.add_argument("--seed", type=_natural, default=0, metavar="N", help="seed of everything random")
    run.add_argument("--device", default="cpu", metavar="D", help="torch device")
    run.add_argument("--run-id", type=_name, metavar="ID", help="name of the run; generated when left out")
    run.add_argument("--experiment", default="", metavar="NAME", help="what the run belongs to")

    learning = root.add_argument_group("learning")
    learning.add_argument("--learning-rate", type=_rate, default=3e-4, metavar="X", help="step size of Adam")
    learning.add_argument("--entropy-coef", type=_share, default=0.01, metavar="X", help="base coefficient")
    learning.add_argument("--entropy-multiplier", action="append", default=[], type=_multiplier,
                          metavar="HEAD=X", help="factor on the base for a head; repeatable")  # fmt: skip
    learning.add_argument("--gamma", type=_share, default=0.99, metavar="X", help="discount")
    learning.add_argument("--rollout-steps", type=_positive, default=64, metavar="N", help="steps per rollout")

    output = root.add_argument_group("output")
    output.add_argument("--listen", type=_listen, default=ListenAddress(), metavar="HOST:PORT",
                        help="address of /metrics; port 0 takes a free one")  # fmt: skip
    output.add_argument("--linger", type=_seconds, default=60.0, metavar="SECONDS",
                        help="longest wait for scrapers to fetch the final state")  # fmt: skip
    output.add_argument("--hold", action="store_true", help="on a terminal, keep /metrics up until Ctrl-C")
    output.add_argument("--pace", type=_seconds, default=0.0, metavar="SECONDS", help="wait after each update")
    output.add_argument("--log-json", type=Path, metavar="FILE", help="one JSON line per update")
    output.add_argument("--record-rollouts", type=Path, metavar="FILE",
                        help="at the end, write the last update's logits and masks")  # fmt: skip
    output.add_argument("--tui", action="store_true", help="show the panel ACTION HEADS instead of the table")
    output.add_argument("--quiet", action="store_true", help="no progress display")
    return root


def _number(text: str, kind: type[int] | type[float], low: float, high: float, remedy: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = kind(-1)
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not possible; give {remedy}")
    return value


def _positive(text: str) -> int:
    return int(_number(text, int, 1, 2**31, "a whole number >= 1"))


def _natural(text: str) -> int:
    return int(_number(text, int, 0, 2**31, "a whole number >= 0"))


def _seconds(text: str) -> float:
    return float(_number(text, float, 0, 1e9, "seconds >= 0"))


def _rate(text: str) -> float:
    return float(_number(text, float, 1e-12, 1e3, "a number above 0"))


def _share(text: str) -> float:
    return float(_number(text, float, 0, 1, "a number from 0 to 1"))


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name identifies nothing; give one, or leave the option out")
    return text


def _listen(text: str) -> ListenAddress:
    try:
        return parse_listen_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _key_value(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE; write for example noise=4")
    if value in {"true", "false"}:
        return key, value == "true"
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _multiplier(text: str) -> tuple[str, float]:
    head, equals, value = text.rpartition("=")
    if not equals or not head:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEAD=X; write for example blueprint=1.3")
    return head, float(_number(value, float, 0, 1e6, "a factor >= 0"))
