import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rl_exporter import HeadMeasurement, Heads, Level, RunInfo, RunState, SanctumAggregator
from rl_exporter.health import level
from rl_training import rollout as rollout_module
from rl_training.action_space import HEAD_MAX_ENTROPIES, HEAD_NAMES
from rl_training.advantages import generalized_advantages
from rl_training.cli import main
from rl_training.config import PPOConfig
from rl_training.drill import DRILL, HEALTHY_TWIN
from rl_training.emitter import Emitter, build_payload
from rl_training.environments.adapter import make_environment
from rl_training.ppo import PPOAgent, with_multipliers
from rl_training.results import NonfiniteCounts, UpdateResult
from rl_training.rollout import RolloutCollector
from rl_training.trainer import Limits, train


def setup(name="heads", seed=0, envs=8, arguments=None, **config):
    env = make_environment(name, envs, arguments or {})
    agent = PPOAgent(env.heads, env.observation_size, PPOConfig(**{"rollout_steps": 64, **config}), seed=seed)
    return env, agent, RolloutCollector(env, agent.network, seed=seed, device=agent.device)


def evaluate(agent, rollout, starts=None, masks=None):
    with torch.no_grad():
        return agent.network.evaluate_actions(
            rollout.observations,
            rollout.actions,
            rollout.decision_masks if masks is None else masks,
            rollout.starts if starts is None else starts,
            rollout.state,
        )


def second_rollout(**arguments):
    """A rollout of 25 steps after another, so that state is carried and episodes of 16 end inside."""
    _, agent, collector = setup(arguments={"consult": "table", "noise": 2, **arguments})
    collector.collect(25)
    return agent, collector.collect(25)


def test_evaluate_actions_reproduces_the_rollout():
    agent, rollout = second_rollout()
    assert rollout.ended.any()
    assert rollout.state[0].abs().sum() > 0
    found = evaluate(agent, rollout)
    assert torch.allclose(found.log_probs, rollout.log_probs, atol=1e-5)
    assert torch.allclose(found.values, rollout.values, atol=1e-5)


def test_that_proof_fails_when_the_state_is_not_reset():
    agent, rollout = second_rollout()
    found = evaluate(agent, rollout, starts=np.zeros_like(rollout.starts))
    assert not torch.allclose(found.values, rollout.values, atol=1e-5)


def test_that_proof_fails_under_the_wrong_mask_row():
    agent, rollout = second_rollout()
    found = evaluate(agent, rollout, masks=rollout.step_masks)
    assert not torch.allclose(found.log_probs, rollout.log_probs, atol=1e-5)


def test_unconsulted_heads_take_their_canonical_action_for_free():
    _, rollout = second_rollout()
    waits = rollout.actions[..., 0] == 0
    assert waits.any()
    assert (rollout.actions[waits][:, 1:] == 0).all()
    assert (rollout.log_probs[waits][:, 1:] == 0).all()
    assert not rollout.choice[waits][:, 1:].any()


def test_advantages_by_hand():
    column = torch.tensor([[1.0], [2.0], [3.0]])
    values = torch.tensor([[0.5], [0.25], [0.125]])
    following = torch.tensor([[0.25], [10.0], [0.0]])
    ended = torch.tensor([[False], [True], [True]])
    found = generalized_advantages(column, values, following, ended, gamma=0.5, lam=0.5)
    last = 3 - 0.125
    middle = 2 + 0.5 * 10 - 0.25  # truncated: bootstraps from the final observation, cuts lambda
    assert found.squeeze().tolist() == pytest.approx([1 + 0.125 - 0.5 + 0.25 * middle, middle, last])


def test_truncation_bootstraps_from_the_final_observation_with_the_live_state():
    env, agent, collector = setup(envs=2)
    step_environment = env.step
    outcomes = []

    def step(actions):
        outcomes.append(step_environment(actions))
        return outcomes[-1]

    env.step = step
    rollout = collector.collect(16)
    assert rollout.ended[15].all()
    final = torch.tensor(outcomes[15][4])
    state = rollout.state
    with torch.no_grad():
        for observation in rollout.observations:
            state = agent.network.step(observation, state)[2]
        live = agent.network.step(final, state)[1]
        forgotten = agent.network.step(final, agent.network.initial_state(2))[1]
    assert torch.allclose(rollout.next_values[15], live, atol=1e-6)
    assert not torch.allclose(rollout.next_values[15], forgotten, atol=1e-6)
    assert torch.equal(rollout.next_values[:15], rollout.values[1:])


def test_termination_does_not_bootstrap():
    _, _, collector = setup("CartPole-v1", envs=2)
    rollout = collector.collect(64)
    assert rollout.ended.any()
    assert (rollout.next_values[rollout.ended] == 0).all()


def test_sampling_depends_on_seed_and_environment_index_alone():
    few, many = (setup(envs=n)[2].collect(8).actions for n in (2, 4))
    assert torch.equal(few, many[:, :2])
    assert not torch.equal(many[:, 0], many[:, 1])


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


def test_telemetry_is_the_mean_over_every_step_of_the_epoch():
    """With a learning rate of nothing each epoch measures the policy that acted, which is computed here."""
    _, agent, collector = setup(arguments={"consult": "table"}, learning_rate=0.0, epochs=2)
    rollout = collector.collect(40)
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


def test_telemetry_does_not_change_training():
    def weights(telemetry):
        _, agent, collector = setup(telemetry=telemetry)
        for _ in range(2):
            agent._update_network(collector.collect(16))
        return torch.cat([p.flatten() for p in agent.network.parameters()])

    assert torch.equal(weights(telemetry=True), weights(telemetry=False))


def poison(rollout, value):
    rewards = rollout.rewards.clone()
    rewards[3, 1] = value
    return replace(rollout, rewards=rewards)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nonfinite_loss_leaves_parameters_finite_and_alone(value):
    _, agent, collector = setup()
    before = [p.clone() for p in agent.network.parameters()]
    result = agent._update_network(poison(collector.collect(16), value))
    assert result.nonfinite
    assert all(torch.equal(a, b) for a, b in zip(before, agent.network.parameters(), strict=True))
    measured = build_payload(result).heads
    assert {m.entropy for m in measured.values()} == {m.choice_share for m in measured.values()} == {None}
    assert min(m.nan_gradients + m.inf_gradients for m in measured.values()) > 0
    assert not agent._update_network(collector.collect(16)).nonfinite
    assert all(torch.isfinite(p).all() for p in agent.network.parameters())


def test_ten_nonfinite_updates_in_a_row_fail_the_run(caplog):
    _, agent, collector = setup()
    collect = collector.collect
    collector.collect = lambda steps: poison(collect(steps), math.nan)
    aggregator = SanctumAggregator(agent.heads, RunInfo("run"))
    emitter = Emitter([aggregator], aggregator.count_record_error)
    with caplog.at_level(logging.WARNING, "rl_training"):
        state = train(agent, collector, emitter, Limits(50, None), lambda: False)
    assert state is RunState.FAILED
    assert aggregator.snapshot().tamiyo.updates == 10
    assert not aggregator.snapshot().tamiyo.readings["op"].measured
    assert "not finite" in caplog.text


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

    monkeypatch.setattr("rl_training.telemetry.summarize", broken)
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
    clip = torch.nn.utils.clip_grad_norm_

    def spy(parameters, limit):
        heads = agent.network.heads
        seen.extend([p.grad[h].clone() for p in heads.parameters()] for h in range(len(HEAD_NAMES)))
        return clip(parameters, limit)

    torch.nn.utils.clip_grad_norm_ = spy
    try:
        result = agent._update_network(rollout)
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
    for name, gradients in zip(HEAD_NAMES, seen, strict=True):
        norm = torch.cat([g.flatten() for g in gradients]).norm().item()
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


def test_episodes_are_finished_by_every_environment():
    _, agent, collector = setup(envs=3)
    aggregator = SanctumAggregator(agent.heads, RunInfo("run"))
    emitter = Emitter([aggregator], aggregator.count_record_error)
    assert train(agent, collector, emitter, Limits(None, 5), lambda: False) is RunState.COMPLETED
    assert (collector.episodes >= 5).all()
    assert aggregator.snapshot().tamiyo.updates == 2
    assert aggregator.snapshot().episodes == 24


def gap_closed(seed, delay, updates=60):
    env, agent, collector = setup(
        seed=seed,
        arguments={"noise": 4, "delay": delay},
        learning_rate=3e-3,
        gamma=0.9,
        entropy_coefficient=0.003,
    )
    for _ in range(updates):
        agent._update_network(collector.collect(64))
    uniform, best = env.vector.uniform_return, env.vector.best_return
    return (collector.episode_return - uniform) / (best - uniform)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_it_learns(seed, delay):
    assert gap_closed(seed, delay) >= 0.7


@pytest.mark.slow
def test_that_proof_fails_with_the_advantage_upside_down(monkeypatch):
    monkeypatch.setattr("rl_training.ppo.generalized_advantages", lambda *a: -generalized_advantages(*a))
    assert gap_closed(0, 0) < 0.1


@pytest.mark.slow
def test_that_proof_fails_without_memory(monkeypatch):
    def forgetful(self, *arguments):
        self._starts = np.ones_like(self._starts)
        return original(self, *arguments)

    original = rollout_module.RolloutCollector._step
    monkeypatch.setattr(rollout_module.RolloutCollector, "_step", forgetful)
    assert gap_closed(0, 1) < 0.7


def played(arguments, seed, tmp_path):
    log = tmp_path / "log.jsonl"
    fixed = ["--listen", "127.0.0.1:0", "--quiet", "--seed", str(seed), "--log-json", str(log)]
    assert main([*arguments, *fixed]) == 0
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_drill_collapses_one_head_while_the_total_looks_healthy(seed, tmp_path):
    updates = played(DRILL, seed, tmp_path)
    ratios = [u["rl_policy_head_choice_entropy_ratio"] for u in updates]
    down = next(i for i, r in enumerate(ratios) if level(r["blueprint"]) is Level.CRITICAL)
    assert down < 25
    assert min(value for r in ratios[: down + 1] for name, value in r.items() if name != "blueprint") > 0.75
    total = [u["rl_policy_entropy_nats"] for u in updates]
    assert total[down] / total[0] > 0.7


@pytest.mark.slow
def test_the_healthy_twin_never_warns(tmp_path):
    for update in played(HEALTHY_TWIN, 0, tmp_path):
        assert min(update["rl_policy_head_choice_entropy_ratio"].values()) > 0.5


@pytest.mark.slow
def test_cartpole_is_solved_by_the_documented_command(tmp_path):
    command = next(
        line.split() for line in Path("README.md").read_text().splitlines() if "rl-train --env CartPole" in line
    )
    updates = played(command[command.index("--env") :], 0, tmp_path)
    assert max(u.get("rl_training_episode_return", 0) for u in updates) >= 475


def test_unknown_multipliers_are_named():
    with pytest.raises(ValueError, match="unknown head 'arm'"):
        with_multipliers(Heads.of({"op": 3}), {"arm": 2.0})
