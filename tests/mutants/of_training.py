"""Mistakes in the trainer."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_MEASUREMENT = "training/rl_training/telemetry/measurement.py"
_DISTRIBUTIONS = "training/rl_training/policy/distributions.py"
_PROPERTIES = ("tests/exporter/integrations/meter/test_epochs.py",)
_RANKS = (
    "tests/training/distributed/test_ranks.py",
    "-k",
    "divergence or outranks or (learn_what and config0-2)",
)
_PPO = "training/rl_training/algorithm/ppo.py"
_LOSSES = "training/rl_training/algorithm/losses.py"
_LOCKSTEP = "training/rl_training/policy/lockstep.py"
_LOCKSTEP_TESTS = ("tests/training/policy/test_lockstep.py",)
_REFERENCE = "tests/training/algorithm/test_update_reference.py"
_RUN_NUMBERS = (_REFERENCE, "-k", "run_level_number")
_PARAMETERS = (_REFERENCE, "-k", "parameters_after")
_INTERVENTION = ("tests/training/run/test_intervention.py", "-k")
_REPORTS = ("tests/training/algorithm/test_episode_reports.py", "-k")

TRAINING = (
    Mutant(
        "log2 instead of ln",
        _DISTRIBUTIONS,
        "entropy: Tensor = softmax.log_total - ctx.mean",
        "entropy: Tensor = (softmax.log_total - ctx.mean) / 0.6931471805599453",
        _PROPERTIES,
    ),
    Mutant(
        "entropy after a probability floor",
        _DISTRIBUTIONS,
        "        self.weights = exponentials(centered)\n",
        "        self.weights = exponentials(centered).clamp_min(1e-3)\n",
        _PROPERTIES,
    ),
    Mutant(
        "gradient norm: clipped instead of raw",
        "training/rl_training/algorithm/gradients.py",
        "        return GradientNorms(whole, heads)\n",
        "        return GradientNorms(whole, self._heads.gradient_norms())\n",
        ("tests/training/telemetry/test_update.py", "-k", "before_clipping"),
    ),
    Mutant(
        "nats: under the decision mask, where it differs from the step mask",
        _MEASUREMENT,
        "    entropy = decided.index_copy(-1, part.heads, torch.cat(entropies, 2).movedim(0, -1))\n",
        "    entropy = decided\n",
        ("tests/training/telemetry/test_update.py", "-k", "mean_over_every_step"),
    ),
    Mutant(
        "several ranks: losses divided by the steps of one rank",
        _LOSSES,
        "(heads.choice_shares * batch.steps)",
        "(heads.choice_shares * batch.advantages.numel())",
        _RANKS,
    ),
    Mutant(
        "several ranks: the KL divergence of one rank ends its update",
        "training/rl_training/algorithm/ppo.py",
        "        self._ranks.all_reduce([*gradients, scalars])\n",
        "        self._ranks.all_reduce(gradients)\n",
        _RANKS,
    ),
    Mutant(
        "several ranks: interrupted, although one is gone",
        "training/rl_training/algorithm/rollout_counts.py",
        "        ranks.gather(row)\n",
        "        pass\n",
        _RANKS,
    ),
    Mutant(
        "KL divergence: of the policy before its update",
        _PPO,
        "partial(divergence_from, rollout, masks, self.network)",
        "partial(torch.clone, divergence_from(rollout, masks, self.network) * 0)",
        _RUN_NUMBERS,
    ),
    Mutant(
        "policy loss: measured with the other sign",
        _LOSSES,
        "policy_loss=policy_loss.detach(),",
        "policy_loss=-policy_loss.detach(),",
        _RUN_NUMBERS,
    ),
    Mutant(
        "explained variance: upside down",
        _PPO,
        "1 - variance[0] / variance[1]",
        "1 - variance[1] / variance[0]",
        _RUN_NUMBERS,
    ),
    Mutant(
        "entropy bonus: mean over all steps instead of the choice steps",
        _LOSSES,
        "(entropy * (heads.coefficients * weights)).sum()",
        "(heads.coefficients * entropy.mean((0, 1))).sum()",
        _PARAMETERS,
    ),
    Mutant(
        "value loss: halved twice",
        _LOSSES,
        "value_loss = 0.5 * (",
        "value_loss = 0.25 * (",
        _RUN_NUMBERS,
    ),
    Mutant(
        "value coefficient: ignored",
        _LOSSES,
        "config.value_coefficient * scaled",
        "scaled",
        _PARAMETERS,
    ),
    Mutant(
        "value loss: in units of the reward",
        _LOSSES,
        "config.value_coefficient * scaled",
        "config.value_coefficient * value_loss",
        _PARAMETERS,
    ),
    Mutant(
        "value head: units change, and estimates with them",
        "training/rl_training/policy/value.py",
        "        self.output.weight.mul_(units[1] / new_scale)\n",
        "",
        ("tests/training/policy/test_value.py", "-k", "estimates_stay"),
    ),
    Mutant(
        "advantages: small ones count as much as large ones",
        "training/rl_training/algorithm/advantages.py",
        "        return torch.maximum(deviation, self.recent)\n",
        "        return deviation\n",
        ("tests/training/algorithm/test_advantage_scale.py",),
    ),
    Mutant(
        "clip range: open below",
        _LOSSES,
        "ratio.clamp(1 - config.clip, 1 + config.clip)",
        "ratio.clamp(max=1 + config.clip)",
        _PARAMETERS,
    ),
    Mutant(
        "gradient of the recurrent weights: with the state after a step instead of the one before",
        _LOCKSTEP,
        "torch.bmm(d_gates.mT, before)",
        "torch.bmm(d_gates.mT, steps.hidden[:, -d_gates.shape[1] :])",
        _LOCKSTEP_TESTS,
    ),
    Mutant(
        "gradient through time: forgets nothing",
        _LOCKSTEP,
        "torch.mul(d_cell_now, forget_now, out=d_cell_before)",
        "d_cell_before.copy_(d_cell_now)",
        _LOCKSTEP_TESTS,
    ),
    Mutant(
        "an episode that begins with a rollout: starts from the state of the one before",
        "training/rl_training/policy/fragments.py",
        "(offset == 0) & ~starts[0, owner]",
        "offset == 0",
        ("tests/training/policy/test_fragments.py",),
    ),
    Mutant(
        "entropy: half of its gradient",
        _DISTRIBUTIONS,
        ".mul_(spread(upstream)), None",
        ".mul_(spread(upstream)).mul_(0.5), None",
        ("tests/training/policy/test_distributions.py", "-k", "gradients_of_entropy"),
    ),
    Mutant(
        "environments: the reports of rank 0 alone",
        "training/rl_training/algorithm/rollout_counts.py",
        "for report in json.loads(text.tobytes()",
        "for report in json.loads(texts[0].tobytes()",
        (*_REPORTS, "ranks_report"),
    ),
    Mutant(
        "environments: numbers of all copies in an array of the first one's type",
        "training/rl_training/environments/report.py",
        "{_KEY: Report.of(info)} if ends",
        "{_KEY: Report.of(info).metrics} if ends",
        (*_REPORTS, "whole_reports"),
    ),
    Mutant(
        "controller: a resumed run begins with an integral of 0",
        "training/rl_training/run/intervention.py",
        "            controller.restore(_controls(resumed))\n",
        "            controller.restore({})\n",
        (*_INTERVENTION, "integral_that_it_had"),
    ),
    Mutant(
        "controller: what it adds never reaches the loss",
        _PPO,
        "self.entropy_coefficient * self._multipliers + self._added",
        "self.entropy_coefficient * self._multipliers",
        (*_INTERVENTION, "observing_leaves"),
    ),
)
