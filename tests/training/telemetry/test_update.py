"""What an update measures of its heads, and that measuring neither changes nor stops training."""

import math
from dataclasses import replace

import pytest
import torch

from rl_exporter import HeadMeasurement, Heads, RunInfo, RunState, SanctumAggregator
from rl_exporter.integrations.meter.result import NonfiniteCounts
from rl_training.action_space import HEAD_MAX_ENTROPIES, HEAD_NAMES
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry import measurement
from rl_training.telemetry.emitter import Emitter, build_payload
from rl_training.telemetry.result import UpdateResult
from tests.support.agents import evaluate, narrowed, setup


def test_ppo_update_populates_per_head_entropies():
    _, agent, collector = setup(arguments={"consult": "table"})
    rollout = collector.collect(64)
    result = agent._update_network(rollout)
    assert tuple(result.head_entropy_history) == HEAD_NAMES
    aggregator = SanctumAggregator(agent.heads, RunInfo("run"))
    Emitter([aggregator], aggregator.count_record_error).emit_ppo_update(result)
    tamiyo = aggregator.snapshot().tamiyo
    for name, maximum in HEAD_MAX_ENTROPIES.items():
        history = result.head_entropy_history[name]
        assert 1 <= len(history) <= agent.config.epochs
        entropy = getattr(tamiyo, f"head_{name}_entropy")
        assert entropy == pytest.approx(sum(history) / len(history), abs=1e-12)
        assert 0 < entropy <= maximum
    assert tamiyo.entropy == pytest.approx(sum(r.entropy for r in tamiyo.readings.values()))


@pytest.mark.parametrize("dependent", [(), (1,), (1, 2, 7)])
@pytest.mark.parametrize("at_a_time", [1, 100, 10_000])
def test_telemetry_is_the_mean_over_every_step_of_the_epoch(monkeypatch, dependent, at_a_time):
    """With a learning rate of nothing each epoch measures the policy that acted, which is computed here."""
    monkeypatch.setattr(measurement, "_STEPS_AT_A_TIME", at_a_time)
    _, agent, collector = setup(arguments={"consult": "table"}, learning_rate=0.0, epochs=2, target_kl=100.0)
    with torch.no_grad():
        agent.network.heads.bias_out.normal_(generator=torch.Generator().manual_seed(0))
    rollout = collector.collect(40)
    for head in dependent:
        rollout = narrowed(rollout, agent.network.layout, head)
    assert rollout.dependent_heads == dependent
    result = agent._update_network(rollout)
    logits = evaluate(agent, rollout).logits.double()
    offset = 0
    for head, (name, size) in enumerate((h.name, h.choices) for h in agent.heads):
        segment = slice(offset, offset + size)
        offset += size

        def entropies(masks, segment=segment):
            kept = logits[..., segment].masked_fill(~masks[..., segment], -torch.inf)
            return torch.distributions.Categorical(logits=kept).entropy()

        expected = entropies(rollout.step_masks).mean().item()
        assert result.head_entropy_history[name] == pytest.approx((expected, expected), abs=1e-5)
        choice = rollout.choice[..., head]
        valid = rollout.decision_masks[..., segment].sum(-1).double()
        relative = (entropies(rollout.decision_masks) / valid.log())[choice].mean().item()
        assert result.head_choice_entropy_history[name] == pytest.approx((relative, relative), abs=1e-5)
        assert result.choice_share[name] == pytest.approx(choice.double().mean().item())


@pytest.mark.slow
def test_telemetry_does_not_change_training():
    def weights(telemetry):
        _, agent, collector = setup(telemetry=telemetry)
        for _ in range(2):
            agent._update_network(collector.collect(16))
        return torch.cat([p.flatten() for p in agent.network.parameters()])

    assert torch.equal(weights(telemetry=True), weights(telemetry=False))


def test_an_error_inside_telemetry_is_counted_and_logged_once(caplog):
    class Broken:
        def handle_ppo_update(self, payload):
            raise RuntimeError("broken handler")

    aggregator = SanctumAggregator(Heads.of({"op": 3}), RunInfo("run"))
    emitter = Emitter([Broken(), aggregator], aggregator.count_record_error)
    for _ in range(3):
        emitter.emit_ppo_update(UpdateResult(head_entropy_history={"op": ()}))
    assert aggregator.snapshot().record_errors == 3
    assert aggregator.snapshot().tamiyo.updates == 3
    assert len(caplog.records) == 1
    assert "broken handler" in caplog.text


def test_an_error_while_reducing_is_counted_and_training_goes_on(monkeypatch):
    def broken(*arguments, **named):
        raise RuntimeError("no memory for telemetry")

    monkeypatch.setattr("rl_training.telemetry.update.divide", broken)
    _, agent, collector = setup()
    aggregator = SanctumAggregator(agent.heads, RunInfo("run"))
    emitter = Emitter([aggregator], aggregator.count_record_error)
    assert train(agent, collector, emitter, Limits(3, None), lambda: False) is RunState.COMPLETED
    assert aggregator.snapshot().record_errors == 3
    assert aggregator.snapshot().tamiyo.updates == 3
    assert not aggregator.snapshot().tamiyo.readings["op"].measured


def test_a_head_without_a_whole_epoch_was_not_measured():
    counts = NonfiniteCounts(nan_steps=2)
    result = UpdateResult(
        head_entropy_history={"op": ()}, head_nonfinite={"op": counts}, choice_share={"op": 1.0}
    )
    assert build_payload(result).heads == {"op": HeadMeasurement(nan_steps=2)}


def test_gradient_norms_are_those_of_the_heads_own_parameters_before_clipping():
    """One epoch of one minibatch, so that the whole gradient is at hand; clipping is harsh."""
    _, agent, collector = setup(epochs=1, minibatches=1, max_gradient_norm=1e-3, learning_rate=0.0)
    rollout = collector.collect(16)
    seen = []
    for parameter in agent.network.heads.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    result = agent._update_network(rollout)
    assert len(seen) == 4
    for head, name in enumerate(HEAD_NAMES):
        norm = torch.cat([gradient[head].flatten() for gradient in seen]).norm().item()
        assert result.head_gradient_norm[name] == pytest.approx(norm, rel=1e-5)
        assert norm > 1e-3


def test_the_largest_importance_ratio_is_over_choice_steps():
    _, agent, collector = setup(arguments={"consult": "table"}, epochs=1, minibatches=1, learning_rate=0.0)
    rollout = collector.collect(16)
    shifted = rollout.log_probs - torch.where(rollout.choice, torch.rand(rollout.log_probs.shape), 5.0)
    result = agent._update_network(replace(rollout, log_probs=shifted))
    ratios = (rollout.log_probs - shifted).exp()
    for head, name in enumerate(HEAD_NAMES):
        expected = ratios[..., head][rollout.choice[..., head]].max().item()
        assert result.head_importance_ratio_max[name] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("value", "kind"), [(math.nan, "nan_steps"), (math.inf, "inf_steps")])
def test_steps_with_logits_that_are_not_finite_are_counted_by_head(value, kind):
    _, agent, collector = setup(arguments={"consult": "table"}, epochs=2, minibatches=1)
    rollout = collector.collect(8)
    with torch.no_grad():
        agent.network.heads.bias_out[1, 0] = value  # slot, its first action
    result = agent._update_network(rollout)
    valid = int(rollout.step_masks[..., 6].sum())
    assert result.nonfinite
    assert getattr(result.head_nonfinite["slot"], kind) == valid
    assert result.head_nonfinite["slot"].nan_steps + result.head_nonfinite["slot"].inf_steps == valid
    assert result.head_nonfinite["slot"].nan_gradients + result.head_nonfinite["slot"].inf_gradients == 1
    assert set(result.head_nonfinite) == {"slot"}
