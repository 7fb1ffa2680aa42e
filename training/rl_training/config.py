"""Every setting of a run: a dataclass for each section; a field is an option and a key of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rl_exporter.recorder import LINGER_SECONDS
from rl_exporter.server.listen import ListenAddress
from rl_training.setting_kinds import (
    Address,
    Advertised,
    ControllerMode,
    Critic,
    EntropyTargets,
    Factors,
    File,
    Labels,
    Name,
    Natural,
    Positive,
    Precision,
    Rate,
    References,
    Schedule,
    Seconds,
    Share,
    Switch,
    Text,
    Thresholds,
    Timeout,
    Webhook,
    Which,
)


class BadInputError(ValueError):
    """The user gave an impossible value; the message names the input, the reason and the remedy."""


class Option(NamedTuple):
    """A setting on the command line; ``name`` where it differs from the name of the field."""

    help: str
    metavar: str = ""
    name: str = ""


def option(help_: str, metavar: str = "", name: str = "") -> Mapping[str, Any]:
    """Metadata of a dataclass field that is a setting."""
    return {"option": Option(help_, metavar, name)}


OBSERVATION_LIMIT = 10.0
"""Observations beyond it are cut off: one of thousands saturates the encoder, which then sees little else.
Observations of the usual scale stay as they are; ``ObservationScale`` scales others whose bounds it knows.
"""

DEFAULT_EPISODES = 100
"""Episodes of every environment after which a run without any limit is complete."""


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
        default=1,
        metadata=option("updates that keep their checkpoint by number; 1 keeps and deletes none of these", "N"),
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
    minibatches: Positive = field(
        default=8,
        metadata=option("parts of a pass, of whole environments; a smaller --num-envs lowers the default", "N"),
    )
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
