"""Environments in worker processes: the same results, and nothing left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rl_training.environments.growing.environment import GrowingNetworkEnv
from rl_training.environments.growing.vector import GrowingVectorEnv, WorkerError, environment_seed
from tests.support.playing import SMALL, random_actions, same
from tests.support.waiting import until


@pytest.fixture
def vector():
    made = []

    def make(workers, num_envs=3):
        made.append(GrowingVectorEnv(num_envs, workers=workers, **SMALL))
        return made[-1]

    yield make
    for env in made:
        env.close()


def vector_trajectory(env, steps=8):
    rng = np.random.default_rng(2)
    parts = [env.reset(seed=5)[0]]
    for _ in range(steps):
        masks = env.action_masks()
        observations, rewards, terminated, truncated, infos = env.step(random_actions(masks, rng))
        assert not truncated.any()
        parts += [masks, observations, rewards, terminated]
        if terminated.any():
            parts += [infos["final_obs"][i] for i in np.flatnonzero(terminated)]
    return parts


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(vector):
    inside = vector_trajectory(vector(0))
    assert same(inside, vector_trajectory(vector(2)))
    assert same(inside, vector_trajectory(vector(3)))


@pytest.mark.slow
def test_the_vector_form_is_the_single_form_many_times(vector):
    env = vector(0)
    singles = [GrowingNetworkEnv(**SMALL) for _ in range(3)]
    first, _ = env.reset(seed=7)
    assert np.array_equal(first, [e.reset(seed=environment_seed(7, i))[0] for i, e in enumerate(singles)])
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(8):
        actions = random_actions(env.action_masks(), rng)
        observations, rewards, terminated, _, infos = env.step(actions)
        for i, single in enumerate(singles):
            observation, reward, over, _, _ = single.step(actions[i])
            assert (reward, over) == (rewards[i], terminated[i])
            if over:
                ended += 1
                assert np.array_equal(observation, infos["final_obs"][i])
                observation = single.reset()[0]
            assert np.array_equal(observation, observations[i])
            assert np.array_equal(single.action_masks(), env.action_masks()[i])
    assert ended >= 3


@pytest.mark.slow
def test_a_killed_worker_is_named(vector):
    env = vector(2)
    env.reset(seed=0)
    victim = env._workers[1][0]
    os.kill(victim.pid, signal.SIGKILL)
    message = rf"environment worker 1 \(process {victim.pid}\) was killed by signal 9"
    with pytest.raises(WorkerError, match=message):
        env.step(np.zeros((3, 8), dtype=np.int64))


@pytest.mark.slow
def test_the_message_of_a_failing_worker_arrives(vector):
    env = vector(2)
    env.reset(seed=0)
    with pytest.raises(WorkerError, match="99 is not a valid Operation"):
        env.step(np.full((3, 8), 99))


@pytest.mark.slow
def test_closing_ends_the_workers(vector):
    env = vector(2)
    env.reset(seed=0)
    pids = [process.pid for process, _ in env._workers]
    env.close()
    assert not any(alive(pid) for pid in pids)


@pytest.mark.slow
def test_an_environment_that_nobody_closes_keeps_no_process_alive():
    code = (
        "from rl_training.environments.growing.vector import GrowingVectorEnv\n"
        "if __name__ == '__main__':\n"
        "    env = GrowingVectorEnv(2, plateau_epochs=1)\n"
        "    print(*(process.pid for process, _ in env._workers))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not any(alive(int(pid)) for pid in ended.stdout.split())
    assert ended.stdout.count(" ") == 1


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def trainer(tmp_path):
    """A run of the trainer that has made its first update, and the process ids of its workers."""
    log = tmp_path / "log"
    arguments = [f"--env-arg={key}={value}" for key, value in SMALL.items()]
    command = [
        *(sys.executable, "-m", "rl_training", "--env", "growing-network", *arguments, "--num-envs", "2"),
        *("--updates", "1000000", "--rollout-steps", "4", "--listen", "127.0.0.1:0", "--linger", "0"),
        *("--run-id", "grown", "--log-json", str(log)),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until(lambda: log.exists() and log.stat().st_size, 120)
    yield process, workers_of(process.pid)
    process.kill()
    process.communicate()


def workers_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return [child for child, command in commands.items() if "spawn_main" in command]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_every_process_of_the_run_ends_it_cleanly(number, trainer):
    process, workers = trainer
    assert len(workers) == 2
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "run grown interrupted" in out
    until(lambda: not any(alive(pid) for pid in workers), 120)


@pytest.mark.slow
def test_workers_do_not_outlive_a_trainer_that_is_killed(trainer):
    process, workers = trainer
    assert all(alive(pid) for pid in workers)
    process.kill()
    until(lambda: not any(alive(pid) for pid in workers), 120)


@pytest.mark.slow
def test_a_dead_worker_fails_the_run(trainer):
    process, workers = trainer
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "run grown failed" in out
    assert "was killed by signal 9" in err
    until(lambda: not alive(workers[1]), 120)
