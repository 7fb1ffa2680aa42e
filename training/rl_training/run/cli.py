"""The console script ``rl-train``: its options, and a one-line error for bad input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from rl_exporter.cli.parser import OneLineParser
from rl_exporter.collector import DISTRIBUTION
from rl_exporter.discovery.labels import parse_label
from rl_exporter.standard_streams import discard_output, open_standard_streams
from rl_training.literals import parse_literal

if TYPE_CHECKING:
    from rl_training.config import Settings
    from rl_training.run.settings import Setting, Values

_NEEDED = ("torch", "pydantic", "yaml")
Value = TypeVar("Value")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, 1 for a failed run, 2 for bad input."""
    open_standard_streams()
    missing = [package for package in _NEEDED if find_spec(package) is None]
    if missing:
        return _refuse(f"{missing[0]} is not installed; pip install 'rl-policy-exporter[training]'")
    from rl_training.run.settings import SettingsError, dump  # noqa: PLC0415 - the base package has no pydantic

    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["play"]:
        return _play(play_parser().parse_args(given[1:]))
    options = parser().parse_args(given)
    try:
        settings = settings_from(options)
        if options.print_config:
            # Files are read as UTF-8, whatever this one is written as.
            sys.stdout.write(dump(settings, ascii_only=(sys.stdout.encoding or "").lower() != "utf-8"))
            return 0
    except SettingsError as error:
        return _refuse(str(error))
    return _run(settings)


def _run(settings: Settings) -> int:
    from rl_training.config import BadInputError  # noqa: PLC0415 - the base package has no pydantic
    from rl_training.distributed.rendezvous import SaidElsewhereError  # noqa: PLC0415 - the same
    from rl_training.ranks import RankLostError  # noqa: PLC0415 - the same
    from rl_training.run.app import run  # noqa: PLC0415 - torch takes seconds to load; --help must not

    try:
        return run(settings)
    except SaidElsewhereError:
        return 2
    except KeyboardInterrupt:  # before the run began
        return 130
    except BadInputError as error:
        return _refuse(str(error))
    except RankLostError as error:
        _refuse(str(error))
        return 1


def _play(options: argparse.Namespace) -> int:
    from rl_training.config import BadInputError  # noqa: PLC0415 - the base package has no pydantic
    from rl_training.run.play import Replay, play  # noqa: PLC0415 - torch takes seconds to load; --help must not

    given = vars(options)
    try:
        play(Replay(**{**given, "arguments": dict(given["arguments"]), "colour": sys.stdout.isatty()}), _print)
    except BadInputError as error:
        return _refuse(str(error), "rl-train play")
    except BrokenPipeError:  # its reader, such as head, has what it wanted
        discard_output()
    except KeyboardInterrupt:
        return 130
    return 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _refuse(reason: str, program: str = "rl-train") -> int:
    sys.stderr.write(f"{program}: error: {reason}\n")
    return 2


def settings_from(options: argparse.Namespace) -> Settings:
    """The settings from parsed options and the file that they may name. Raises SettingsError."""
    from rl_training.run.settings import (  # noqa: PLC0415 - as in main
        build_settings,
        read_config,
        require_trainable,
    )

    given: dict[str, dict[str, Any]] = {}
    for name, value in vars(options).items():
        section, dot, key = name.partition(".")
        if section == "environment":
            given[section] = dict(value)
        elif dot:
            given.setdefault(section, {})[key] = dict(value) if isinstance(value, list) else value
    file: Values = read_config(options.config) if options.config else {}
    settings = build_settings(file, given)
    require_trainable(settings)
    return settings


def parser() -> argparse.ArgumentParser:
    """The parser of ``rl-train``: an option for each setting, and a few about the configuration itself."""
    from rl_training.run.settings import SECTIONS, arguments_help, settings_of  # noqa: PLC0415 - as in main

    root = OneLineParser(
        prog="rl-train",
        usage="%(prog)s [options]\n       %(prog)s play --checkpoint DIR [options]",
        description="Train a PPO policy with several action heads; /metrics shows every head's entropy. "
        "rl-train play replays one: see rl-train play --help.",
        epilog=arguments_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=version(DISTRIBUTION))
    root.add_argument("--config", type=_run_setting("checkpoint"), metavar="FILE",
                      help="settings from a YAML file; options win")  # fmt: skip
    root.add_argument("--print-config", action="store_true",
                      help="print the whole effective configuration as YAML and exit")  # fmt: skip
    for name, section in SECTIONS.items():
        group = root.add_argument_group(name)
        for setting in settings_of(section).values():
            _add_option(group, name, setting)
        if name == "run":
            group.add_argument("--env-arg", action="append", type=_key_value, metavar="KEY=VALUE",
                               dest="environment", default=argparse.SUPPRESS,
                               help="argument of the environment, see below; may be repeated")  # fmt: skip
    return root


def play_parser() -> argparse.ArgumentParser:
    """The parser of ``rl-train play``."""
    root = OneLineParser(
        prog="rl-train play",
        description="Replay the policy of a checkpoint and print what it did: the architecture that it grew, "
        "or return and length of each episode.",
        allow_abbrev=False,
    )
    folder, positive, seed = map(_run_setting, ("checkpoint", "updates", "seed"))
    root.add_argument("--checkpoint", dest="folder", type=folder, metavar="DIR", required=True,
                      help="folder of checkpoints that a run has written")  # fmt: skip
    root.add_argument("--which", type=_run_setting("resume-from"), metavar="WHICH",
                      help="best, or a number of updates (default: the newest)")  # fmt: skip
    root.add_argument("--episodes", type=positive, default=1, metavar="N", help="episodes to play (default: 1)")
    root.add_argument("--render", action=argparse.BooleanOptionalAction, default=None,
                      help="show each step, in text or in a window, as the environment can (default: for "
                      "growing-network)")  # fmt: skip
    root.add_argument("--greedy", action="store_true",
                      help="take the most probable actions instead of sampling as in training")  # fmt: skip
    root.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of the episodes (default: 0)")
    root.add_argument("--env", type=_run_setting("env"), metavar="NAME",
                      help="environment (default: that of the checkpoint)")  # fmt: skip
    root.add_argument("--env-arg", dest="arguments", action="append", type=_key_value, default=[],
                      metavar="KEY=VALUE", help="argument of the environment; may be repeated")  # fmt: skip
    root.add_argument("--device", type=_run_setting("device"), default="cpu", metavar="D",
                      help="torch device (default: cpu)")  # fmt: skip
    return root


def _run_setting(key: str) -> Callable[[str], Any]:
    """Checks a value as the option of a run of that name does."""
    from rl_training.run.settings import SECTIONS, settings_of  # noqa: PLC0415 - as in main

    return _checked(settings_of(SECTIONS["run"])[key])


def _add_option(group: argparse._ArgumentGroup, section: str, setting: Setting) -> None:
    common: dict[str, Any] = {"dest": f"{section}.{setting.key}", "default": argparse.SUPPRESS}
    flag, default = f"--{setting.key}", setting.default
    common["help"] = setting.option.help
    if isinstance(default, bool):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    elif isinstance(default, dict):
        pair = _PAIRS[setting.option.metavar]
        group.add_argument(flag, action="append", type=pair, metavar=setting.option.metavar, **common)
    else:
        shown = "" if default in {None, ""} else f" (default: {default})"
        common["help"] += shown
        group.add_argument(flag, type=_checked(setting), metavar=setting.option.metavar, **common)


def _checked(setting: Setting) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return setting.check(text, strict=False)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _key_value(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE; write for example noise=4")
    if value in {"true", "false"}:
        return key, value == "true"
    try:
        return key, parse_literal(value)
    except ValueError:
        return key, value


def _multiplier(text: str) -> tuple[str, float]:
    head, equals, value = text.rpartition("=")
    try:
        factor = float(value)
    except ValueError:
        factor = -1.0
    if not equals or not head:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEAD=X; write for example blueprint=1.3")
    if not 0 <= factor <= 1e6:
        raise argparse.ArgumentTypeError(f"{value!r} is not possible; give a factor >= 0")
    return head, factor


def _target(text: str) -> tuple[str, float]:
    head, equals, value = text.rpartition("=")
    try:
        ratio = float(value)
    except ValueError:
        equals = ""
    if not equals or not head:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEAD=R; write for example blueprint=0.4")
    return _possible(head, ratio, "learning", "entropy-target")


def _threshold(text: str) -> tuple[str, tuple[float, float]]:
    head, equals, values = text.rpartition("=")
    try:
        warning, critical = map(float, values.split(","))
    except ValueError:
        equals = ""
    if not equals or not head:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not HEAD=WARNING,CRITICAL; write for example blueprint=0.4,0.2"
        )
    return _possible(head, (warning, critical), "output", "threshold")


def _reference(text: str) -> tuple[str, str | float]:
    head, equals, value = text.rpartition("=")
    if not equals or not head:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEAD=REFERENCE; write for example blueprint=start")
    try:
        nats = float(value)
    except ValueError:
        return _possible(head, value, "output", "reference")
    return _possible(head, nats, "output", "reference")


def _possible(head: str, value: Value, section: str, key: str) -> tuple[str, Value]:
    from rl_training.run.settings import SECTIONS, settings_of  # noqa: PLC0415 - the base package has no pydantic

    try:
        settings_of(SECTIONS[section])[key].check({head: value}, strict=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return head, value


def _label(text: str) -> tuple[str, str]:
    try:
        return parse_label(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


_PAIRS: Mapping[str, Callable[[str], tuple[str, Any]]] = {
    "HEAD=X": _multiplier,
    "HEAD=R": _target,
    "HEAD=WARNING,CRITICAL": _threshold,
    "HEAD=REFERENCE": _reference,
    "NAME=VALUE": _label,
}
