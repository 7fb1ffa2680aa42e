"""What travels from the learners to the driver in RLlib's results, and how the driver records it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, SupportsFloat, cast

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.learner.learner import Learner

from rl_exporter.heads import Heads
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.recorder import HeadRecorder

UPDATES = "rl_policy_exporter"
"""Key, below a module's results, of its updates since the last result."""

_HEAD_ARGUMENTS = {number.name: number.row.argument or number.name for number in attributes(HeadNumbers)}

_LOGGED = {
    "policy_loss": "policy_loss",
    "value_loss": "vf_loss_unclipped",
    "explained_variance": "vf_explained_var",
    "learning_rate": "default_optimizer_learning_rate",
    "entropy_coefficient": "curr_entropy_coeff",
}
"""Numbers of a run, and the keys under which RLlib's PPO logs them for each module."""

_FACTORS = {"value_loss": 0.5}
"""RLlib logs the whole squared error of the value estimates; rl_value_loss is half of it."""


def logged_heads(numbers: Mapping[str, Any], heads: Heads) -> dict[str, dict[str, float]]:
    """The numbers of each head by name, for RLlib's own logger; a number that was not measured is absent."""
    found: dict[str, dict[str, float]] = {}
    for head in heads:
        own = {
            name: numbers[argument][head.name]
            for name, argument in _HEAD_ARGUMENTS.items()
            if head.name in numbers.get(argument, ())
        }
        normalized = head.normalize(own["entropy"]) if "entropy" in own else None
        if normalized is not None:
            own["normalized_entropy"] = normalized
        if own:
            found[head.name] = own
    return found


def heads_of(algorithm: Algorithm) -> dict[str, int]:
    """Names and numbers of choices of the heads that the algorithm's learners measure, for ``serve``.

    With several modules the names are ``module/head``. ValueError where its learners measure nothing.
    """
    modules = learner_heads(algorithm)
    return {
        joined_name(module_id, name, len(modules)): choices
        for module_id, heads in modules.items()
        for name, choices in heads.items()
    }


def joined_name(module_id: str, head: str, modules: int) -> str:
    """The name of a head among those of so many modules."""
    return head if modules == 1 else f"{module_id}/{head}"


def learner_heads(algorithm: Algorithm) -> dict[str, dict[str, int]]:
    """The heads of each module, from a learner. ValueError where the learners measure nothing."""
    group = getattr(algorithm, "learner_group", None)
    found = None if group is None else next(iter(group.foreach_learner(_metered_heads))).get()
    if found is None:
        raise ValueError(
            f"the learners of {type(algorithm).__name__} measure no heads; use the new API stack and "
            "config.training(learner_class=HeadPPOTorchLearner)"
        )
    return cast(dict[str, dict[str, int]], found)


def _metered_heads(learner: Learner) -> dict[str, dict[str, int]] | None:
    return getattr(learner, "metered_heads", None)


class ResultRecorder:
    """Records the results of ``algorithm.train()`` with a recorder of ``rl_exporter.serve(heads_of(...))``.

    ``record`` never raises: errors are counted by the recorder, and the first is logged.
    """

    def __init__(self, algorithm: Algorithm, recorder: HeadRecorder) -> None:
        self._modules = learner_heads(algorithm)
        self._recorder = recorder
        self._guard = ErrorGuard(recorder.count_record_error)

    def record(self, result: Mapping[str, Any]) -> None:
        """Record each update that the result is of."""
        with self._guard:
            learners = result.get("learners", {})
            updates = list(self._updates(learners))
            for update in updates[:-1]:
                self._recorder.record(**update)
            if updates:
                self._recorder.record(**{**updates[-1], **self._of_iteration(learners, result)})

    def _updates(self, learners: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The arguments of ``record`` for each update, oldest first."""
        by_update: dict[int, dict[str, Mapping[str, Any]]] = {}
        for module_id in self._modules:
            for item in _items(learners.get(module_id, {}).get(UPDATES)):
                by_update.setdefault(item["update"], {})[module_id] = item["numbers"]
                for _ in range(item["errors"]):
                    self._recorder.count_record_error()
        for _, modules in sorted(by_update.items()):
            yield self._joined(modules)

    def _joined(self, modules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Numbers by head of all modules; numbers of a policy only where there is one, durations once."""
        if len(self._modules) == 1:
            return dict(*modules.values())
        joined: dict[str, Any] = {}
        for module_id, numbers in modules.items():
            for name, value in numbers.items():
                if isinstance(value, Mapping):
                    names = {joined_name(module_id, head, len(self._modules)): v for head, v in value.items()}
                    joined.setdefault(name, {}).update(names)
                elif name.endswith("_duration"):
                    joined[name] = value
        return joined

    def _of_iteration(self, learners: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
        """What RLlib says of the iteration."""
        runners = result.get("env_runners", {})
        found = {
            "environment_steps": int(runners.get("num_env_steps_sampled", 0)),
            "episodes": int(runners.get("num_episodes", 0)),
            "episode_return": _measured(runners.get("episode_return_mean")),
            "episode_length": _measured(runners.get("episode_len_mean")),
        }
        if len(self._modules) == 1:
            logged = learners[next(iter(self._modules))]
            for name, key in _LOGGED.items():
                value = _measured(logged.get(key))
                found[name] = None if value is None else value * _FACTORS.get(name, 1.0)
        return found


def _items(given: Any) -> list[Mapping[str, Any]]:
    """The items of a series; RLlib hands a single one over without its list."""
    if isinstance(given, Mapping):
        return [given]
    return given if isinstance(given, list) else []


def _measured(value: SupportsFloat | None) -> float | None:
    """A number of RLlib; it calls NaN what was not logged."""
    number = None if value is None else float(value)
    return None if number is None or number != number else number  # noqa: PLR0124 - NaN
