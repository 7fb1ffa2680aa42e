"""``--entropy-controller``: a run with a controller, its log, its resume, and what happens when it fails."""

import json
import logging
from functools import partial
from itertools import pairwise

import pytest

from rl_exporter import HeadMeasurement, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.intervention import EntropyController
from rl_training.run.checkpoint import read_origin
from rl_training.run.checkpoint_file import read_state, write_state
from rl_training.run.cli import main
from rl_training.run.intervention import Intervention
from rl_training.run.settings import build_settings, read_config
from tests.support.agents import setup
from tests.support.ranks import agent_on, at_once, thread_ranks

DRILL = (
    *("--env", "heads", "--env-arg", "paid_head=blueprint", "--env-arg", "single_action=true"),
    *("--num-envs", "8", "--rollout-steps", "16", "--epochs", "4", "--minibatches", "4", "--hidden", "16"),
    *("--learning-rate", "2e-2", "--learning-rate-schedule", "constant", "--entropy-multiplier", "blueprint=0"),
    *("--listen", "127.0.0.1:0", "--linger", "0", "--quiet"),
)
TARGET = ("--entropy-target", "blueprint=0.5")
APPLIED = "rl_policy_head_entropy_coefficient_applied"
INTERVENTIONS = "rl_policy_head_interventions_total"


def lines(tmp_path, *arguments, updates=12, name="log"):
    log = tmp_path / name
    assert main([*DRILL, "--updates", str(updates), "--log-json", str(log), *arguments]) == 0
    return [json.loads(line) for line in log.read_text().splitlines()]


def returns(found):
    return [line["rl_training_episode_return"] for line in found]


def test_the_coefficient_of_a_collapsing_head_rises_and_the_log_says_so(tmp_path):
    found = lines(tmp_path, "--entropy-controller", "on", *TARGET)
    applied = [line[APPLIED]["blueprint"] for line in found]
    assert applied[:2] == [0.0, 0.0]  # the multiplier is 0, and a controller cannot act before the first update
    assert max(applied) > 0.2
    last = found[-1]
    changes = sum(one != other for one, other in pairwise(applied))
    assert sum(last[INTERVENTIONS]["blueprint"].values()) == changes
    assert last["rl_policy_head_entropy_target_ratio"] == {"blueprint": 0.5}
    assert "rl_policy_head_entropy_coefficient_proposed" not in last
    assert found[0]["rl_policy_head_controller_saturated_updates"] == {"blueprint": 0.0}


@pytest.mark.slow
def test_observing_leaves_the_training_as_it_is(tmp_path):
    without = lines(tmp_path, name="off")
    observed = lines(tmp_path, "--entropy-controller", "observe", *TARGET, name="observe")
    assert returns(observed) == returns(without)
    assert {line[APPLIED]["blueprint"] for line in observed} == {0.0}
    assert observed[-1]["rl_policy_head_entropy_coefficient_proposed"]["blueprint"] > 0.2
    assert observed[-1][INTERVENTIONS]["blueprint"] == {"raise": 0.0, "release": 0.0}
    assert not [name for name in without[-1] if "interventions" in name]
    acted = lines(tmp_path, "--entropy-controller", "on", *TARGET, name="on")
    assert returns(acted) != returns(without)


def test_a_resumed_run_goes_on_with_the_integral_that_it_had(tmp_path):
    folder = tmp_path / "checkpoints"
    kept = ("--checkpoint", str(folder), "--entropy-controller", "on", *TARGET)
    first = lines(tmp_path, *kept, updates=11)
    state = read_state(folder / "checkpoint.pt", "cpu")["controller"]["blueprint"]
    assert state["integral"] > 0
    resumed = lines(tmp_path, *kept, "--resume", updates=12)
    assert resumed[-1]["update"] == 12
    assert resumed[-1][APPLIED]["blueprint"] == pytest.approx(state["added"])
    counted = [line[INTERVENTIONS]["blueprint"]["raise"] for line in (first[-1], resumed[-1])]
    assert counted[1] - counted[0] == (state["added"] > first[-1][APPLIED]["blueprint"])


@pytest.mark.parametrize("version", ["this", "former"])
def test_one_that_observed_begins_to_act_with_nothing_added(version, tmp_path):
    folder = tmp_path / "checkpoints"
    kept = ("--checkpoint", str(folder), *TARGET)
    observed = lines(tmp_path, *kept, "--entropy-controller", "observe", updates=12)
    proposed = observed[-1]["rl_policy_head_entropy_coefficient_proposed"]["blueprint"]
    assert proposed > 0.2
    if version == "former":
        state = read_state(folder / "checkpoint.pt", "cpu")
        state["controller"]["blueprint"] |= {"raised": 5}
        del state["controller"]["blueprint"]["acted"]
        write_state(folder / "checkpoint.pt", state)
    acted = lines(tmp_path, *kept, "--entropy-controller", "on", "--resume", updates=16, name="on")
    applied = [line[APPLIED]["blueprint"] for line in acted]
    assert applied[0] == 0.0
    assert max(other - one for one, other in pairwise(applied)) <= 0.5
    assert max(applied) > 0.0
    raised = [line[INTERVENTIONS]["blueprint"]["raise"] for line in acted]
    assert raised[0] == 0.0
    assert raised[-1] == sum(other > one for one, other in pairwise(applied))
    assert acted[0]["rl_policy_head_controller_saturated_updates"] == {"blueprint": 0.0}


def test_a_checkpoint_without_a_controller_can_be_gone_on_from_with_one_and_a_damaged_one_cannot(
    tmp_path, capsys
):
    folder = tmp_path / "checkpoints"
    kept = ("--checkpoint", str(folder))
    lines(tmp_path, *kept, updates=1)
    control = ("--entropy-controller", "on", *TARGET, "--resume")
    assert lines(tmp_path, *kept, *control, updates=2)[-1][APPLIED] == {"blueprint": 0.0}
    state = read_state(folder / "checkpoint.pt", "cpu")
    write_state(folder / "checkpoint.pt", {**state, "controller": {"blueprint": {"integral": -1.0}}})
    assert main([*DRILL, *kept, *control, "--updates", "3"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rl-train: error: --resume: the checkpoint holds no state of a controller")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--entropy-controller", "on"],
            "--entropy-controller on needs a target; give --entropy-target HEAD=R",
        ),
        (["--entropy-controller", "yes"], "'yes' is not possible; give off, observe or on"),
        (["--entropy-target", "blueprint"], "'blueprint' is not HEAD=R; write for example blueprint=0.4"),
        (["--entropy-target", "op=1"], "head 'op' has target 1.0; give a number between 0 and 1"),
        (["--entropy-target", "op=nan"], "give an effective entropy ratio between 0 and 1"),
        (["--entropy-controller", "on", "--entropy-target", "arm=0.4"], "--entropy-target: unknown head 'arm'"),
        (["--entropy-controller", "on", "--entropy-target", "op=0.2"], "not above its critical threshold 0.25"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, reason, capsys):
    try:
        status = main([*DRILL, *arguments])
    except SystemExit as exit_:
        status = exit_.code
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert reason in error


def test_targets_without_a_controller_are_mentioned(tmp_path, caplog):
    lines(tmp_path, *TARGET, updates=1)
    assert "--entropy-target has no effect while --entropy-controller is off" in caplog.text


@pytest.mark.parametrize(
    ("written", "mode"), [("on", "on"), ("off", "off"), ("observe", "observe"), ("'on'", "on")]
)
def test_a_file_may_say_on_and_off_without_quotes(tmp_path, written, mode):
    file = tmp_path / "run.yml"
    file.write_text(f"learning: {{entropy-controller: {written}, entropy-target: {{op: 0.4}}}}\n")
    settings = build_settings(read_config(file), {})
    assert settings.learning.entropy_controller == mode
    assert settings.learning.entropy_target == {"op": 0.4}


def test_a_controller_that_fails_changes_no_coefficient_and_ends_no_run(caplog):
    _, agent, _ = setup(envs=1)
    aggregator = SanctumAggregator(agent.heads, RunInfo("run"))
    controller = EntropyController(agent.heads, {"op": 0.4})
    controller.restore({"op": {**controller.state()["op"], "added": 0.5}})
    intervention = Intervention(controller, agent, aggregator)
    intervention.apply()
    before = agent._added.clone()
    assert before[0] == 0.5

    def broken(_snapshot):
        raise RuntimeError("broken")

    controller.added = broken
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            intervention.adjust()
    assert caplog.text.count("the entropy controller failed") == 1
    assert agent._added.equal(before)
    assert aggregator.snapshot().record_errors == 3


def test_an_update_that_measured_nothing_still_says_what_was_applied():
    _, agent, _ = setup(envs=1)
    aggregator = SanctumAggregator(agent.heads, RunInfo("run"))
    intervention = Intervention(EntropyController(agent.heads, {"op": 0.4}), agent, aggregator)
    intervention.handle_ppo_update(
        PPOUpdatePayload(heads={"op": HeadMeasurement(1.0)}, entropy_coefficient=0.01)
    )
    intervention.handle_ppo_update(PPOUpdatePayload())
    intervention.adjust()
    reading = aggregator.snapshot().tamiyo.readings["op"]
    assert reading.entropy_coefficient_applied == 0.01
    assert agent._added.count_nonzero() == 0


def test_every_rank_gets_what_rank_0_adds():
    agents = [agent_on(ranks) for ranks in thread_ranks(3)]
    given = ({"op": 0.25}, {}, {"slot": 1.0})
    at_once([partial(agent.add_entropy_coefficients, one) for agent, one in zip(agents, given, strict=True)])
    assert [agent._added.tolist()[:2] for agent in agents] == [[0.25, 0.0]] * 3
    with pytest.raises(KeyError, match="unknown heads"):
        agents[0].add_entropy_coefficients({"arm": 1.0})


def test_a_checkpoint_says_that_there_was_a_controller(tmp_path):
    folder = tmp_path / "checkpoints"
    lines(tmp_path, "--checkpoint", str(folder), "--entropy-controller", "observe", *TARGET, updates=1)
    settings = json.loads(read_origin(folder).settings)["learning"]
    assert (settings["entropy-controller"], settings["entropy-target"]) == ("observe", {"blueprint": 0.5})
