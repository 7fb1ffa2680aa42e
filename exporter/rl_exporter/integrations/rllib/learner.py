"""RLlib's PPO learner for PyTorch, with a meter where it computes losses and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
import tree
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchMultiCategorical,
    TorchMultiDistribution,
)
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import nn

from rl_exporter.heads import Heads
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.rllib.minibatches import UpdateClock
from rl_exporter.integrations.rllib.module_meter import ModuleMeter
from rl_exporter.integrations.rllib.results import UPDATES, logged_heads
from rl_exporter.integrations.rllib.spaces import head_layer, names_of, space_heads

_CATEGORICAL = (TorchCategorical, TorchMultiCategorical, TorchMultiDistribution)


class HeadMeterMixin(TorchLearner):
    """Measures the heads of every module with a categorical action, before a learner of RLlib's PPO.

    ``class MyLearner(HeadMeterMixin, MyPPOTorchLearner)``. ``learner_config_dict`` of the algorithm may hold
    ``head_names``, a sequence or, for several modules, one for each by its id, and ``log_heads``: False keeps
    the numbers of the heads out of RLlib's results, where TensorBoard and the like find them.

    ``build`` raises ValueError where no module has a categorical action, or names do not fit. Later errors are
    logged once and counted, and cost the numbers of an update, never the training.
    """

    def build(self) -> None:
        """Build the learner, then a meter for each of its modules that can be measured."""
        super().build()
        self._head_errors = 0
        self._head_guard = ErrorGuard(self._count_head_error)
        self._head_meters = {
            module_id: ModuleMeter(
                heads, self.config.get_config_for_module(module_id).clip_param, self._count_head_error
            )
            for module_id, heads in self._declared_heads().items()
        }
        self._head_updates = 0
        self._head_clock = UpdateClock()
        if self._learner_connector is not None:
            self._learner_connector.append(_BatchReady(self._begin_epochs))

    @property
    def metered_heads(self) -> dict[str, dict[str, int]]:
        """Names and numbers of choices of the heads of each module that is measured."""
        return {
            module_id: {head.name: head.choices for head in meter.heads}
            for module_id, meter in self._head_meters.items()
        }

    def head_layer(self, module_id: str) -> nn.Linear | None:
        """The layer with one row for each logit of a module; None: gradients of heads are not measured.

        By default the last layer of ``module.pi``. Override it for modules of another form.
        """
        choices = sum(head.choices for head in self._head_meters[module_id].heads)
        return head_layer(self.module[module_id].unwrapped(), choices)

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """An update begins; its batch is not ready yet."""
        super().before_gradient_based_update(timesteps=timesteps)
        self._head_clock.begin()
        self._begin_epochs({})

    def compute_losses(self, *, fwd_out: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """Compute the losses of a minibatch, and measure what they saw."""
        losses: dict[str, Any] = super().compute_losses(fwd_out=fwd_out, batch=batch)
        self._add_minibatch(fwd_out, batch)
        return losses

    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> Any:
        """Compute the gradients of a minibatch, and measure them before anything clips them."""
        gradients = super().compute_gradients(loss_per_module, **kwargs)
        # A scaler of mixed precision removes its factor later, where gradients are applied.
        if self._grad_scalers is None:
            self._add_gradients(loss_per_module)
        return gradients

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """End the update, and hand its numbers to RLlib's logger."""
        super().after_gradient_based_update(timesteps=timesteps)
        self._head_updates += 1
        found: dict[str, dict[str, Any]] = {}
        with self._head_guard:
            found = self._measured()
        if self._first_learner:
            with self._head_guard:
                for module_id in self._head_meters:
                    self._log_module(module_id, {**found.get(module_id, {}), **self._head_clock.durations()})
        self._head_clock.end()

    def _declared_heads(self) -> dict[str, Heads]:
        names = self.config.learner_config_dict.get("head_names")
        found = {}
        for module_id in self.module.keys():  # noqa: SIM118 - it is no mapping
            module = self.module[module_id].unwrapped()
            kind = module.get_train_action_dist_cls()
            if isinstance(kind, type) and issubclass(kind, _CATEGORICAL):
                heads = space_heads(module.action_space, names_of(names, module_id))
                if heads is not None:
                    found[module_id] = heads
        unknown = set(names if isinstance(names, Mapping) else ()) - set(found)
        if unknown or not found:
            raise ValueError(
                f"modules with categorical actions are {sorted(found) or 'none'}"
                + (f", but head_names are of {sorted(unknown)}" if unknown else "")
                + "; use MultiDiscrete or Discrete action spaces and name those modules"
            )
        return found

    def _begin_epochs(self, batch: Mapping[str, Mapping[str, Any]]) -> None:
        """The batch of each module is complete: count its rows, or the sequences of recurrent modules."""
        self._head_clock.batch_ready()
        with self._head_guard:
            for module_id, meter in self._head_meters.items():
                actions = batch.get(module_id, {}).get(Columns.ACTIONS)
                meter.begin(None if actions is None else len(tree.flatten(actions)[0]))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _add_minibatch(self, fwd_out: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        with self._head_guard:
            for module_id, meter in self._head_meters.items():
                if module_id in fwd_out and module_id in batch:
                    meter.add(fwd_out[module_id], batch[module_id])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _add_gradients(self, losses: Mapping[str, Any]) -> None:
        with self._head_guard:
            for module_id, meter in self._head_meters.items():
                layer = self.head_layer(module_id) if module_id in losses else None
                if layer is not None:
                    meter.gradients(layer)

    @property
    def _head_group(self) -> dist.ProcessGroup | None:
        """The learners that train together."""
        return dist.group.WORLD if self.config.num_learners > 1 else None

    @property
    def _first_learner(self) -> bool:
        return self._head_group is None or dist.get_rank(self._head_group) == 0

    def _measured(self) -> dict[str, dict[str, Any]]:
        """The numbers of each module; all learners call this, and get the same."""
        meters = [self._head_meters[module_id] for module_id in sorted(self._head_meters)]
        epochs = self._common_epochs([meter.finish() for meter in meters], self._head_group)
        found = [meter.result(own, self._head_group) for meter, own in zip(meters, epochs, strict=True)]
        return dict(zip(sorted(self._head_meters), found, strict=True))

    def _common_epochs(self, epochs: list[int], group: dist.ProcessGroup | None) -> list[int]:
        """The smallest number of whole epochs among the learners, module by module."""
        if group is None:
            return epochs
        smallest = torch.tensor(epochs, device=self.device)
        dist.all_reduce(smallest, dist.ReduceOp.MIN, group=group)
        return smallest.tolist()

    def _log_module(self, module_id: str, numbers: dict[str, Any]) -> None:
        errors, self._head_errors = self._head_errors, 0
        update = {"update": self._head_updates, "errors": errors, "numbers": numbers}
        self.metrics.log_value((module_id, UPDATES), update, reduce="item_series")
        if self.config.learner_config_dict.get("log_heads", True):
            heads = logged_heads(numbers, self._head_meters[module_id].heads)
            self.metrics.log_dict(heads, key=(module_id, "heads"), window=1)

    def _count_head_error(self) -> None:
        self._head_errors += 1


class HeadPPOTorchLearner(HeadMeterMixin, PPOTorchLearner):
    """RLlib's PPO learner for PyTorch, with its heads measured: ``config.training(learner_class=...)``."""


class _BatchReady(ConnectorV2):
    """Last piece of a learner's connector: it hands the complete batch over, and changes nothing."""

    def __init__(self, ready: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._ready = ready

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002 - the interface
        """Hand the batch over."""
        self._ready(batch)
        return batch
