"""Every setting of a run: a dataclass for each section; a field is an option and a key of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

from rl_exporter.discovery.identity import parse_advertised
from rl_exporter.discovery.labels import check_labels
from rl_exporter.heads import Head
from rl_exporter.intervention.controller import require_ratio
from rl_exporter.notify.destination import parse_destination
from rl_exporter.recorder import LINGER_SECONDS
from rl_exporter.server.listen import ListenAddress, parse_listen_address


class BadInputError(ValueError):
    """The user gave an impossible value; the message names the input, the reason and the remedy."""


class Remedy(NamedTuple):
    """What to give instead of an impossible value; error messages end with it."""

    text: str


class Option(NamedTuple):
    """A setting on the command line; ``name`` where it differs from the name of the field."""

    help: str
    metavar: str = ""
    name: str = ""


def option(help_: str, metavar: str = "", name: str = "") -> Mapping[str, Any]:
    """Metadata of a dataclass field that is a setting."""
    return {"option": Option(help_, metavar, name)}


def _address(text: str) -> str:
    parse_listen_address(text, auto=True)
    return text


def _advertised(text: str) -> str:
    parse_advertised(text)
    return text


def _webhook(text: str) -> str:
    parse_destination(text)
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("an empty name identifies nothing; give one, or leave the option out")
    return text


def _which(text: str) -> str:
    if text != "best" and not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} names no checkpoint; give best, or the number of its update, such as 120")
    return text if text == "best" else str(int(text))


DEFAULT_EPISODES = 100
"""Episodes of every environment after which a run without any limit is complete."""


def _word(value: object) -> object:
    """YAML reads on and off, without quotes, as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _targets(ratios: Mapping[str, float]) -> Mapping[str, float]:
    for name, ratio in ratios.items():
        require_ratio(name, ratio)
    return ratios


def _thresholds(pairs: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
    for name, (warning, critical) in pairs.items():
        Head(name, 2, warning=warning, critical=critical)
    return pairs


def _references(references: Mapping[str, str | float]) -> Mapping[str, str | float]:
    for name, reference in references.items():
        Head(name, 2, reference=reference)
    return references


Positive = Annotated[int, Field(ge=1, le=2**31), Remedy("a whole number >= 1")]
Natural = Annotated[int, Field(ge=0, le=2**31), Remedy("a whole number >= 0")]
Rate = Annotated[float, Field(gt=0, le=1e3), Remedy("a number above 0")]
Share = Annotated[float, Field(ge=0, le=1), Remedy("a number from 0 to 1")]
Timeout = Annotated[float, Field(gt=0, le=1e6), Remedy("seconds above 0")]
Seconds = Annotated[float, Field(ge=0, le=1e9), Remedy("seconds >= 0")]
Factors = Annotated[
    Mapping[str, Annotated[float, Field(ge=0, le=1e6)]],
    Remedy("a factor >= 0 for each head, such as blueprint=1.3"),
]
Thresholds = Annotated[
    Mapping[str, Annotated[tuple[float, float], Field(strict=False)]],
    AfterValidator(_thresholds),
    Remedy("WARNING and CRITICAL, from 0 (off) to 1, for each head, such as blueprint=0.4,0.2"),
]
References = Annotated[
    Mapping[str, str | float],
    AfterValidator(_references),
    Remedy("maximum, start or nats above 0 for each head, such as blueprint=start"),
]
EntropyTargets = Annotated[
    Mapping[str, float],
    AfterValidator(_targets),
    Remedy("an effective entropy ratio between 0 and 1 for each head, such as blueprint=0.4"),
]
ControllerMode = Annotated[
    Literal["off", "observe", "on"], BeforeValidator(_word), Remedy("off, observe or on")
]
Switch = Annotated[bool, Remedy("true or false")]
Critic = Annotated[Literal["own", "shared"], Remedy("own or shared")]
Precision = Annotated[Literal["float32", "bfloat16"], Remedy("float32 or bfloat16")]
Schedule = Annotated[Literal["linear", "constant"], Remedy("linear or constant")]
Text = Annotated[str, Remedy("a text")]
File = Annotated[Path, Field(strict=False), Remedy("a path")]
Name = Annotated[str, AfterValidator(_not_blank), Remedy("a text")]
Which = Annotated[str, AfterValidator(_which), Remedy("best, or the number of an update")]
Address = Annotated[str, AfterValidator(_address), Remedy("HOST:PORT or auto")]
Advertised = Annotated[str, AfterValidator(_advertised), Remedy("HOST or HOST:PORT")]
Webhook = Annotated[str, AfterValidator(_webhook), Remedy("the URL of a webhook, or @FILE")]
Labels = Annotated[
    Mapping[str, str], AfterValidator(check_labels), Remedy("a text for each label, such as cluster=lab")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What runs, for how long, where, and under which name."""

    env: Name = field(
        default="growing-network",
        metadata=option("growing-network, heads, or a registered Gymnasium id", "NAME"),
    )
    num_envs: Positive = field(default=32, metadata=option("parallel environments, of all ranks", "N"))
    episodes: Positive | None = field(
        default=None,
        metadata=option("every parallel environment finishes N; 100 without --updates", "N"),
    )
    updates: Positive | None = field(default=None, metadata=option("end after N updates", "N"))
    seed: Natural = field(default=0, metadata=option("seed of everything random", "N"))
    device: Name = field(default="cpu", metadata=option("torch device", "D"))
    deterministic: Switch = field(
        default=False,
        metadata=option("the same seed gives the same run on one machine, on a GPU, too, for some speed"),
    )
    run_id: Name | None = field(default=None, metadata=option("name of the run; generated when left out", "ID"))
    run_id_unique: Switch = field(
        default=False, metadata=option("append a number to a run_id that is registered and alive")
    )
    experiment: Text = field(default="", metadata=option("what the run belongs to", "NAME"))
    checkpoint: File | None = field(
        default=None, metadata=option("folder to keep the last good state of the run in", "DIR")
    )
    resume: Switch = field(default=False, metadata=option("go on from the state in the checkpoint folder"))
    resume_from: Which | None = field(
        default=None,
        metadata=option("go on from another checkpoint of the folder: best, or a number of updates", "WHICH"),
    )
    keep_checkpoints: Positive = field(
        default=1, metadata=option("updates that keep their checkpoint; the best by return stays, too", "N")
    )
    collective_timeout: Timeout = field(
        default=600.0, metadata=option("longest wait of one rank for the others", "SECONDS")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig:
    """Settings of PPO (Schulman et al. 2017, arXiv:1707.06347); docs/learning.md has what they learn."""

    rollout_steps: Positive = field(
        default=32, metadata=option("steps of each environment between two updates", "N")
    )
    epochs: Positive = field(default=8, metadata=option("passes over a rollout", "N"))
    minibatches: Positive = field(default=8, metadata=option("parts of a pass", "N"))
    learning_rate: Rate = field(default=1e-3, metadata=option("step size of Adam", "X"))
    learning_rate_schedule: Schedule = field(
        default="linear", metadata=option("linear: to 0 at the end of the run; or constant", "NAME")
    )
    gamma: Share = field(default=0.99, metadata=option("discount", "X"))
    gae_lambda: Share = field(default=0.95, metadata=option("decay of advantage estimates", "X"))
    clip: Rate = field(default=0.2, metadata=option("clip range of importance ratios", "X"))
    entropy_coefficient: Share = field(
        default=0.01, metadata=option("base coefficient of the entropy bonus", "X", "entropy-coef")
    )
    entropy_schedule: Schedule = field(
        default="linear", metadata=option("of the entropy bonus: linear or constant", "NAME")
    )
    entropy_multiplier: Factors = field(
        default_factory=dict, metadata=option("factor on the base for a head; repeatable", "HEAD=X")
    )
    entropy_controller: ControllerMode = field(
        default="off",
        metadata=option(
            "on: bring a head that collapses back to its target; observe: only say how; or off", "MODE"
        ),
    )
    entropy_target: EntropyTargets = field(
        default_factory=dict,
        metadata=option("effective entropy ratio at which the controller holds a head; repeatable", "HEAD=R"),
    )
    value_coefficient: Share = field(
        default=0.5, metadata=option("weight of the value loss", "X", "value-coef")
    )
    max_gradient_norm: Rate = field(default=0.5, metadata=option("clip gradients to this norm", "X"))
    target_kl: Rate = field(default=0.2, metadata=option("an update ends at this divergence", "X"))
    hidden: Positive = field(default=64, metadata=option("units of each encoder and LSTM", "N"))
    critic: Critic = field(
        default="own", metadata=option("own: an LSTM of its own, values normalized; or shared", "NAME")
    )
    precision: Precision = field(
        default="float32",
        metadata=option("of products with weights: float32; or bfloat16, but for the recurrent ones", "NAME"),
    )
    telemetry: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """What a run shows and leaves behind."""

    listen: Address = field(
        default=str(ListenAddress()),
        metadata=option("address of /metrics; port 0 takes a free one, auto the next free one", "HOST:PORT"),
    )
    web_config_file: File | None = field(
        default=None,
        metadata=option(
            "TLS and who may read /metrics, in the format of Prometheus' exporter-toolkit",
            "FILE",
            "web.config.file",
        ),
    )
    allow_host: Text = field(
        default="",
        metadata=option("further names that scrapers reach this machine by, between commas", "NAME[,NAME]"),
    )
    register: File | None = field(
        default=None, metadata=option("directory in which Prometheus discovers the run", "DIR")
    )
    label: Labels = field(
        default_factory=dict, metadata=option("label of the registered target; repeatable", "NAME=VALUE")
    )
    advertise: Advertised | None = field(
        default=None, metadata=option("registered address, where it is not the listening one", "HOST[:PORT]")
    )
    threshold: Thresholds = field(
        default_factory=dict,
        metadata=option("entropy ratios that warn and alarm for a head; repeatable", "HEAD=WARNING,CRITICAL"),
    )
    reference: References = field(
        default_factory=dict,
        metadata=option(
            "entropy of a head that counts as 1: maximum, start or nats; repeatable", "HEAD=REFERENCE"
        ),
    )
    notify: Webhook | None = field(
        default=None,
        repr=False,
        metadata=option(
            "webhook that hears what the alert rules would page for: Slack, Discord, JSON; @FILE holds it",
            "URL",
        ),
    )
    linger: Seconds = field(
        default=LINGER_SECONDS, metadata=option("longest wait for scrapers to fetch the final state", "SECONDS")
    )
    hold: Switch = field(default=False, metadata=option("on a terminal, keep /metrics up until Ctrl-C"))
    pace: Seconds = field(default=0.0, metadata=option("wait after each update", "SECONDS"))
    log_json: File | None = field(default=None, metadata=option("one JSON line per update", "FILE"))
    record_rollouts: File | None = field(
        default=None, metadata=option("at the end, write the last update's logits and masks", "FILE")
    )
    tui: Switch = field(default=False, metadata=option("show the panel ACTION HEADS instead of the table"))
    quiet: Switch = field(default=False, metadata=option("no progress display"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole effective configuration; ``environment`` holds the arguments of the environment by name."""

    run: RunConfig = field(default_factory=RunConfig)
    environment: Mapping[str, Any] = field(default_factory=dict)
    learning: PPOConfig = field(default_factory=PPOConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
