"""The numbers of HeadEntropyCallback with real trainers of TRL, against forward passes of their own."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.support import ROOT, tiny_language
from tests.support.tiny_language import VOCABULARY, even_words, short

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]

BETA, CLIP, TEMPERATURE = 0.04, 0.2, 0.9
SINGLE = 1e-6
"""TRL computes in float32, the tests in float64. A loss, whose terms cancel each other, needs more."""


@pytest.fixture(scope="module")
def grpo(model):
    return recorded(
        model, max_steps=6, num_iterations=2, gradient_accumulation_steps=2, beta=BETA, epsilon=CLIP,
        temperature=TEMPERATURE, loss_type="grpo", max_grad_norm=0.1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rloo(model):
    return recorded(
        model, kind="RLOO", max_steps=4, num_iterations=2, beta=BETA, epsilon=CLIP, temperature=TEMPERATURE
    )


def recorded(model, **options):
    """A run: weights and batches of each step, what the trainer logged, and snapshots after each log."""
    from transformers import TrainerCallback

    from rl_exporter.integrations.trl import HeadEntropyCallback

    callback = HeadEntropyCallback("test", listen="127.0.0.1:0", linger=0)
    steps, snapshots, generations = [], [], []

    class Spy(TrainerCallback):
        def on_step_begin(self, args, state, control, model, **_):
            steps.append(SimpleNamespace(weights=copied(model.state_dict()), batches=[]))

        def on_substep_end(self, args, state, control, **_):
            # The trainer has counted the pass already.
            batches = trainer._buffered_inputs
            steps[-1].batches.append(copied(batches[(trainer._step - 1) % len(batches)]))

        on_step_end = on_substep_end

        def on_log(self, args, state, control, **_):
            snapshots.append(callback.recorder.snapshot())

    def generated(prompts, completions, **_):
        generations.append(list(completions))
        return [0.0] * len(completions)

    rewards = [even_words, short, generated]
    trainer = tiny_language.trainer(model, [callback, Spy()], rewards=rewards, **options)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "entropy" in log]
    assert len(logs) == len(steps) == len(snapshots) - 1  # the last log is the summary
    return SimpleNamespace(
        steps=steps, logs=logs, snapshots=snapshots[:-1], generations=generations, args=trainer.args,
        last=callback.recorder.snapshot(),
    )  # fmt: skip


def copied(tensors):
    return {name: value.clone() if torch.is_tensor(value) else value for name, value in tensors.items()}


def network_of(weights):
    """A plain model with these weights, in float64."""
    from transformers import LlamaConfig, LlamaForCausalLM

    network = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **tiny_language.MODEL)).double()
    network.load_state_dict({name: value.double() for name, value in weights.items()})
    return network


def log_probabilities(network, batch):
    """Of every word of the vocabulary at every word of the completions, (B, T, V)."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attended = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    logits = network(input_ids=ids, attention_mask=attended).logits[:, batch["prompt_ids"].shape[1] - 1 : -1]
    return torch.log_softmax(logits / TEMPERATURE, -1)


def of_words(network, batch):
    """Log-probabilities of the words of the completions, (B, T)."""
    return log_probabilities(network, batch).gather(2, batch["completion_ids"].unsqueeze(2)).squeeze(2)


def mean_over_words(values, batch):
    mask = batch["completion_mask"]
    return ((values * mask).sum() / mask.sum()).item()


def mean_over_batches(step, number):
    return np.mean([number(batch) for batch in step.batches])


def expected_rewards(generation):
    """Numbers of one generation, by NumPy, from the texts."""
    each = np.array([even_words(generation), short(generation)])
    total = each.sum(0)
    groups = total.reshape(-1, 4)
    return {
        "reward": total.mean(),
        "reward_std": total.std(ddof=1),
        "reward_zero_std_ratio": np.isclose(groups.std(1, ddof=1), 0.0).mean(),
        'function_reward{function="even_words"}': each[0].mean(),
        'function_reward{function="short"}': each[1].mean(),
        'function_reward_std{function="even_words"}': each[0].std(ddof=1),
        'function_reward_std{function="short"}': each[1].std(ddof=1),
        'function_reward{function="generated"}': 0.0,
        'function_reward_std{function="generated"}': 0.0,
    }


def last_words(batch):
    """That of each completion. 0 and 1, padding and end, are no truncation to TRL."""
    return [
        ids[: mask.sum()][-1]
        for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    ]


def extras(run, index):
    return {number.series.key: number.value for number in run.snapshots[index].environment_metrics}


def acting(run, index):
    """The policy that generated the completions of a step: two steps use each generation."""
    return network_of(run.steps[index - index % 2].weights)


def clipped(ratio, advantages):
    """Where the loss is clipped, below and above."""
    return {
        "low": ((ratio < 1 - CLIP) & (advantages < 0)).double(),
        "high": ((ratio > 1 + CLIP) & (advantages > 0)).double(),
    }


def surrogate(ratio, advantages):
    return -torch.min(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)


def weighted_divergence(chosen, reference, ratio):
    """TRL's estimate at each word of the divergence from the reference model, weighted by importance."""
    apart = reference - chosen
    return (apart.exp() - apart - 1) * ratio


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_the_entropy_is_that_of_the_words_of_the_update(kind, request):
    run = request.getfixturevalue(kind)
    for step, snapshot in zip(run.steps, run.snapshots, strict=True):
        network = network_of(step.weights)

        def entropy(batch, network=network):
            with torch.no_grad():
                of_all = log_probabilities(network, batch)
            return mean_over_words(-(of_all.exp() * of_all).sum(2), batch)

        nats, reading = mean_over_batches(step, entropy), snapshot.tamiyo.readings["token"]
        assert reading.entropy == pytest.approx(nats, rel=SINGLE)
        assert reading.normalized == pytest.approx(nats / math.log(VOCABULARY), rel=SINGLE)


def test_loss_and_gradient_of_grpo(grpo):
    for index, (step, snapshot) in enumerate(zip(grpo.steps, grpo.snapshots, strict=True)):
        network, old, reference = (
            network_of(step.weights),
            acting(grpo, index),
            network_of(grpo.steps[0].weights),
        )
        total = 0.0
        for batch in step.batches:
            chosen, mask = of_words(network, batch), batch["completion_mask"]
            with torch.no_grad():
                before, apart = of_words(old, batch), of_words(reference, batch)
            ratio = (chosen - before).exp()
            loss = surrogate(ratio, batch["advantages"].double().unsqueeze(1))
            loss = loss + BETA * weighted_divergence(chosen, apart, ratio)
            mean = ((loss * mask).sum(1) / mask.sum(1)).mean() / len(step.batches)
            mean.backward()
            total += mean.item()
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in network.parameters()])).item()
        assert snapshot.tamiyo.policy_loss == pytest.approx(total, rel=1e-4, abs=1e-6)
        assert snapshot.tamiyo.gradient_norm == pytest.approx(norm, rel=1e-4)
        assert norm > grpo.args.max_grad_norm  # it is the norm before clipping


@torch.no_grad()
def test_clip_shares_and_divergence_of_grpo(grpo):
    shares = []
    for index, step in enumerate(grpo.steps):
        network, old, reference = (
            network_of(step.weights),
            acting(grpo, index),
            network_of(grpo.steps[0].weights),
        )

        def side(batch, which, network=network, old=old):
            ratio = (of_words(network, batch) - of_words(old, batch)).exp()
            return mean_over_words(clipped(ratio, batch["advantages"].double().unsqueeze(1))[which], batch)

        def divergence(batch, network=network, old=old, reference=reference):
            chosen, apart = of_words(network, batch), of_words(reference, batch)
            ratio = (chosen - of_words(old, batch)).exp()
            return mean_over_words(weighted_divergence(chosen, apart, ratio), batch)

        found = extras(grpo, index)
        low, high = (
            mean_over_batches(step, lambda batch, w=which: side(batch, w)) for which in ("low", "high")
        )
        assert found['clipped_ratio{side="low"}'] == pytest.approx(low, abs=1e-6)
        assert found['clipped_ratio{side="high"}'] == pytest.approx(high, abs=1e-6)
        kl = mean_over_batches(step, divergence)
        assert found["reference_kl_nats"] == pytest.approx(kl, rel=1e-4, abs=1e-6)
        shares.append(low + high)
    assert max(shares) > 0.05


@torch.no_grad()
def test_loss_clip_shares_and_divergence_of_rloo(rloo):
    for index, (step, snapshot) in enumerate(zip(rloo.steps, rloo.snapshots, strict=True)):
        (batch,) = step.batches
        mask, advantages = batch["completion_mask"], batch["advantages"].double()
        old = of_words(acting(rloo, index), batch)
        ratio = ((of_words(network_of(step.weights), batch) - old) * mask).sum(1).exp()
        found, sides = extras(rloo, index), clipped(ratio, advantages)
        assert snapshot.tamiyo.policy_loss == pytest.approx(
            surrogate(ratio, advantages).mean().item(), rel=1e-4, abs=1e-6
        )
        for side, where in sides.items():
            assert found[f'clipped_ratio{{side="{side}"}}'] == pytest.approx(where.mean().item(), abs=1e-6)
        reference = of_words(network_of(rloo.steps[0].weights), batch)
        assert found["reference_kl_nats"] == pytest.approx(mean_over_words(old - reference, batch), abs=1e-5)


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_rewards_and_completions_are_those_of_the_last_generation(kind, request):
    run = request.getfixturevalue(kind)
    completions = words = 0
    for index, snapshot in enumerate(run.snapshots):
        generation, found = run.generations[index // 2], extras(run, index)
        rewards = expected_rewards(generation)
        assert snapshot.episode_return == pytest.approx(rewards.pop("reward"), rel=1e-6)
        for name, value in rewards.items():
            assert found.pop(name) == pytest.approx(value, rel=1e-5, abs=1e-6), name
        batches = run.steps[index].batches
        lengths = np.concatenate([batch["completion_mask"].sum(1) for batch in batches])
        last = np.concatenate([last_words(batch) for batch in batches])
        assert len(lengths) == len(generation)
        assert snapshot.episode_length == pytest.approx(lengths.mean(), rel=1e-6)
        assert found.pop("truncated_completions_ratio") == pytest.approx((last > 1).mean(), rel=1e-6)
        if index % 2 == 0:
            completions, words = completions + len(generation), words + lengths.sum()
        assert (snapshot.episodes, snapshot.environment_steps) == (completions, words)
        assert set(found) == {'clipped_ratio{side="low"}', 'clipped_ratio{side="high"}', "reference_kl_nats"}


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_what_the_trainer_logs_is_what_is_exported(kind, request):
    run = request.getfixturevalue(kind)
    seconds = 0.0
    for update, (log, snapshot) in enumerate(zip(run.logs, run.snapshots, strict=True), 1):
        tamiyo, seconds = snapshot.tamiyo, seconds + log["step_time"]
        assert tamiyo.updates == update
        assert tamiyo.readings["token"].entropy == log["entropy"]
        assert (
            snapshot.learning_rate
            == log["learning_rate"]
            == pytest.approx(5e-3 * (1 - (update - 1) / run.args.max_steps))
        )
        assert tamiyo.gradient_norm == log["grad_norm"]
        assert tamiyo.policy_loss == log["loss"]
        assert snapshot.update_durations.sum == pytest.approx(seconds)
        # TRL defines these in another way, or does not know them.
        assert (tamiyo.kl_divergence, tamiyo.clipped_share, tamiyo.entropy_coefficient) == (None,) * 3
        reading = tamiyo.readings["token"]
        assert (reading.choice_entropy, reading.state_information, reading.gradient_norm) == (None,) * 3
    assert run.last.record_errors == 0
    assert run.last.dropped == ()


def test_the_page_names_what_is_exported(grpo, rloo):
    page = (ROOT / "docs/trl.md").read_text()
    for run in (grpo, rloo):
        for number in run.last.environment_metrics:
            assert f"`rl_environment_{number.series.name}`" in page
