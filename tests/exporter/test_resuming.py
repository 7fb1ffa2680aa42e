"""``serve`` with the snapshot of a former run: it goes on where that one stopped."""

import pickle

import pytest

import rl_exporter
from rl_exporter import HeadMeasurement, PPOUpdatePayload, RunState
from tests.support.served_again import HEADS, replaced, trained


@pytest.fixture
def ended(serve):
    """A run with a bit of everything that is counted."""
    recorder = trained(serve(run_id="grasp"))
    measured = HeadMeasurement(1.0, nan_steps=7, inf_gradients=1)
    recorder.handler.handle_ppo_update(PPOUpdatePayload(heads={"arm": measured}, rollout_duration=3.0))
    recorder.record({"arm": -5.0})
    recorder.close()
    return recorder


@pytest.mark.parametrize(
    "saved",
    [
        lambda snapshot: pickle.loads(pickle.dumps(snapshot)),
        lambda snapshot: rl_exporter.parse_snapshot(
            rl_exporter.collector.Renderer(lambda: snapshot).render("")[0].decode()
        ),
    ],
    ids=["pickled", "exposition"],
)
def test_a_saved_snapshot_resumes_the_run(serve, ended, saved):
    before = ended.snapshot()
    again = serve({"arm": 9, "gripper": 4}, resume_from=saved(before))
    now = again.snapshot()
    assert (now.run.run_id, now.run_state) == ("grasp", RunState.RUNNING)
    assert now.tamiyo.updates == before.tamiyo.updates == 6
    assert (before.resumed_updates, now.resumed_updates) == (0, 6)
    for name in (
        "environment_steps",
        "episodes",
        "update_durations",
        "rollout_durations",
        "episode_return_max",
    ):
        assert getattr(now, name) == getattr(before, name)
    assert (now.record_errors, dict(now.dropped)) == (before.record_errors, dict(before.dropped))
    for name in HEADS:
        one, other = before.tamiyo.readings[name], now.tamiyo.readings[name]
        for number in (
            "entropy",
            "nan_values",
            "inf_values",
            "effective_histogram",
            "critical_streak",
            "state",
        ):
            assert getattr(one, number) == getattr(other, number)
    assert now.tamiyo.readings["arm"].nan_values == 7
    trained(again, 1)
    assert again.snapshot().environment_steps == before.environment_steps + 64


def test_a_resumed_run_may_have_another_name(serve, ended):
    again = serve(run_id="grasp-2", resume_from=ended.snapshot())
    assert (again.snapshot().run.run_id, again.snapshot().tamiyo.updates) == ("grasp-2", 6)


def test_a_snapshot_counts_more_than_the_recorder_that_it_replaces(serve, caplog):
    first = trained(serve(run_id="grasp"))
    saved = first.snapshot()
    trained(first)
    again = serve(resume_from=saved)
    assert again.snapshot().tamiyo.updates == 4
    assert replaced(caplog)[0].endswith("; it continues after update 4")


def test_the_snapshot_of_a_run_without_a_name_resumes_it_in_its_place(serve, fixed, caplog):
    first = trained(serve(listen=fixed))
    again = serve(resume_from=first.snapshot(), listen=fixed)
    assert again.snapshot().run.run_id == first.snapshot().run.run_id
    assert len(replaced(caplog)) == 1


@pytest.mark.parametrize("heads", [{"gripper": 4}, {"gripper": 4, "arm": 10}, {"gripper": 4, "leg": 9}])
def test_a_snapshot_of_other_heads_is_one_line(serve, ended, heads):
    with pytest.raises(ValueError, match="cannot resume") as caught:
        serve(heads, resume_from=ended.snapshot())
    given = ", ".join(f"{name} ({size})" for name, size in heads.items())
    assert str(caught.value) == (
        f"cannot resume run 'grasp': its heads gripper (4), arm (9) are not this policy's {given}; "
        "resume with the same policy"
    )


def test_what_is_no_snapshot_is_one_line(serve):
    with pytest.raises(TypeError, match="resume_from is of type bytes; give the snapshot") as caught:
        serve(resume_from=b"")
    assert "\n" not in str(caught.value)
