"""Algorithms to test with: small, and with a learner that keeps what its losses saw."""

from functools import partial

import numpy as np
import torch
import tree
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns

from rl_exporter.integrations.rllib import HeadEntropyCallback, HeadPPOTorchLearner
from tests.support.rllib.environments import Reach

OPTIONS = {"train_batch_size_per_learner": 64, "minibatch_size": 24, "num_epochs": 3, "lr": 0.01}
OLD = {"logits": Columns.ACTION_DIST_INPUTS, "log_prob": Columns.ACTION_LOGP, "advantages": "advantages"}


class Witness(HeadPPOTorchLearner):
    """Keeps, for each module and update, its minibatches: a second forward pass, and what the batch holds."""

    def build(self):
        super().build()
        self.seen = []
        for module_id in self.module.keys():  # noqa: SIM118 - it is no mapping
            with torch.no_grad():  # a fresh policy is uniform to three digits
                self.layer_of(module_id).weight.mul_(40.0)

    def layer_of(self, module_id):
        *_, last = (part for part in self.module[module_id].unwrapped().pi.modules() if hasattr(part, "weight"))
        return last

    def before_gradient_based_update(self, *, timesteps):
        self.seen.append({})
        super().before_gradient_based_update(timesteps=timesteps)

    def compute_losses(self, *, fwd_out, batch):
        for module_id, own in batch.items():
            with torch.no_grad():
                again = self.module[module_id].unwrapped().forward_train(dict(own))
            minibatch = {name: own[key].numpy().copy() for name, key in OLD.items()}
            minibatch["acting"] = minibatch.pop("logits")
            minibatch["logits"] = again[Columns.ACTION_DIST_INPUTS].numpy()
            minibatch["rows"] = own[Columns.OBS].numpy().copy()
            minibatch["valid"] = own[Columns.LOSS_MASK].numpy().copy()
            actions = [part.numpy() for part in tree.flatten(own[Columns.ACTIONS])]
            flat = [
                part if part.ndim == again[Columns.ACTION_DIST_INPUTS].ndim else part[..., None]
                for part in actions
            ]
            minibatch["actions"] = np.concatenate(flat, -1)
            self.seen[-1].setdefault(module_id, []).append(minibatch)
        return super().compute_losses(fwd_out=fwd_out, batch=batch)

    def compute_gradients(self, loss_per_module, **kwargs):
        gradients = super().compute_gradients(loss_per_module, **kwargs)
        for module_id in loss_per_module:
            layer = self.layer_of(module_id)
            rows = np.concatenate([layer.weight.grad.numpy(), layer.bias.grad.numpy()[:, None]], 1)
            self.seen[-1][module_id][-1]["gradients"] = rows.copy()
        return gradients


def seen_by(algorithm):
    """What each learner saw: a list of updates, each by module a list of minibatches."""
    return [found.get() for found in algorithm.learner_group.foreach_learner(_seen)]


def _seen(learner):
    return learner.seen


def configured(environment=Reach, learners=0, names=None, serve=None, **options):
    """A configuration with the callback, or without for ``serve=False``."""
    config = (
        PPOConfig()
        .environment(environment)
        .env_runners(num_env_runners=0)
        .learners(num_learners=learners)
        .debugging(seed=1)
        .training(
            learner_class=Witness,
            learner_config_dict={} if names is None else {"head_names": names},
            **(OPTIONS | options),
        )
        .rl_module(model_config={"fcnet_hiddens": [8]})
    )
    if serve is False:
        return config
    arguments = {"listen": "127.0.0.1:0", "linger": 0} | (serve or {})
    return config.callbacks(partial(HeadEntropyCallback, "test", **arguments))


class Runs(list):
    """Algorithms that are stopped together."""

    def build(self, config):
        self.append(config.build_algo())
        return self[-1]

    def train(self, config, iterations=1):
        """The algorithm, and what its exporter shows after some iterations."""
        algorithm = self.build(config)
        for _ in range(iterations):
            algorithm.train()
        return algorithm, recorder_of(algorithm).snapshot()

    def stop(self):
        while self:
            self.pop().stop()


def callback_of(algorithm):
    return next(one for one in algorithm.callbacks if isinstance(one, HeadEntropyCallback))


def recorder_of(algorithm):
    return callback_of(algorithm).recorder
