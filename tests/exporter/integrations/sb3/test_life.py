"""How a run with HeadEntropyCallback starts, fails and ends."""

import re
import subprocess
import sys
import urllib.request

import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

import rl_exporter
from rl_exporter import RunState
from rl_exporter.integrations.sb3 import HeadEntropyCallback
from rl_exporter.server import listen
from tests.support import ROOT
from tests.support.ports import free_ports
from tests.support.sb3_reach import At, Reach, assert_untouched, fail, local
from tests.support.sb3_reach import small_ppo as ppo
from tests.support.scraping import scrape, scrape_to_the_end
from tests.support.webhooks import webhook

pytestmark = pytest.mark.slow

SIZES = (4, 2, 6)


@pytest.mark.parametrize(
    ("environment", "options", "names"),
    [
        (Reach(SIZES), {}, ("head_0", "head_1", "head_2")),
        (Reach(SIZES, ["a", "b", "c"]), {}, ("a", "b", "c")),
        (Reach(SIZES, ["a", "b", "c"]), {"head_names": ["x", "y", "z"]}, ("x", "y", "z")),
        (Reach(3), {}, ("action",)),
        (Reach(3, ["gear"]), {}, ("gear",)),
    ],
)
def test_heads_are_named(environment, options, names):
    callback = local(**options)
    ppo(environment).learn(16, callback=callback)
    assert callback.recorder.snapshot().tamiyo.heads.names == names


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (ppo, {"head_names": ["a", "b"]}, "are 2, but the action space .* has 3 heads"),
        (ppo, {"head_names": ["a", "b", "b"]}, "occur more than once"),
        (lambda: ppo("Pendulum-v1"), {}, "no categorical heads"),
        (lambda: DQN("MlpPolicy", "CartPole-v1", device="cpu"), {}, "cannot measure DQN; use it with PPO"),
        (ppo, {"listen": "nowhere"}, "HOST:PORT"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(model, options, reason):
    model = model()
    with pytest.raises(ValueError, match=reason):
        model.learn(16, callback=local(**options))
    assert model.num_timesteps == 0


def test_a_run_that_is_to_be_registered_is_while_it_learns(tmp_path):
    seen = []

    class Look(BaseCallback):
        def _on_step(self):
            seen.extend(path.name for path in tmp_path.iterdir())
            return True

    register = rl_exporter.Discovery(tmp_path, {"cluster": "lab"})
    callback = local(run_id="grasp", register=register, linger=0)
    ppo().learn(16, callback=[callback, Look()])
    assert set(seen) == {"grasp@lab.run.json"}
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(rl_exporter.RegistrationError, match="make it first"):
        ppo().learn(16, callback=local(register=rl_exporter.Discovery(tmp_path / "nothing")))
    with pytest.raises(ValueError, match="give either a recorder"):
        HeadEntropyCallback(recorder=callback.recorder, register=register)


def test_a_run_that_fails_says_so_to_a_webhook():
    with webhook() as hook:
        with pytest.raises(ArithmeticError), local(run_id="grasp", notify=hook.url) as callback:
            ppo().learn(64, callback=[callback, At(2, fail(ArithmeticError))])
        [post] = hook.posts
        assert post["alerts"][0]["annotations"]["summary"] == "Run grasp: the run has failed"
        with pytest.raises(ValueError, match="give either a recorder"):
            HeadEntropyCallback(recorder=callback.recorder, notify=hook.url)


def test_a_port_in_use_is_refused_before_training():
    with rl_exporter.serve({"a": 2}, listen="127.0.0.1:0", linger=0) as other:
        model = ppo()
        with pytest.raises(OSError, match="port is in use"):
            model.learn(16, callback=local(listen=other.url.removeprefix("http://")))
        assert model.num_timesteps == 0


def test_the_cell_runs_again_after_ctrl_c(capsys):
    address = f"127.0.0.1:{free_ports()[0]}"

    def cell():
        callback = local(listen=address, verbose=1)
        with pytest.raises(KeyboardInterrupt):
            ppo().learn(64, callback=[callback, At(3, fail(KeyboardInterrupt))])
        return callback

    first, again = cell(), cell()
    assert again.recorder.snapshot().tamiyo.updates == 4
    assert again.recorder.snapshot().run.run_id == first.recorder.snapshot().run.run_id
    # The former callback starts a recorder of its own again, instead of one that nobody reads.
    ppo().learn(32, callback=first)
    assert first.recorder.snapshot().tamiyo.updates == 6
    assert first.recorder.snapshot().run_state is RunState.COMPLETED
    assert again.recorder.closed
    run_id = first.recorder.snapshot().run.run_id
    assert capsys.readouterr().out.splitlines().count(f"run {run_id}: http://{address}/metrics") == 3


def test_a_callback_prints_the_port_that_auto_takes_once(capsys, monkeypatch):
    monkeypatch.setattr(listen, "AUTO_PORTS", free_ports())
    callback = local(run_id="grasp", listen="auto", verbose=1)
    ppo().learn(16, callback=callback)
    assert capsys.readouterr().out.count(f"run grasp: {callback.recorder.url}/metrics\n") == 1


@pytest.mark.parametrize("stop", [None, lambda model: False])
def test_learn_completes_the_run(stop):
    callback, model = local(), ppo()
    model.learn(48, callback=callback if stop is None else [callback, _stops(40)])
    snapshot = callback.recorder.snapshot()
    assert snapshot.run_state is RunState.COMPLETED
    assert (snapshot.tamiyo.updates, snapshot.record_errors) == (3 if stop is None else 2, 0)
    assert_untouched(model)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(callback.recorder.url, timeout=10)


def _stops(steps):
    class Stop(BaseCallback):
        def _on_step(self):
            return self.num_timesteps < steps

    return Stop()


def test_a_block_spans_every_learn():
    model = ppo()
    with local() as callback:
        for _ in range(2):
            model.learn(32, callback=callback, reset_num_timesteps=False)
        running = callback.recorder.snapshot()
        assert_untouched(model)
    assert running.run_state is RunState.RUNNING
    assert (running.tamiyo.updates, running.environment_steps) == (4, 64)
    assert callback.recorder.snapshot().run_state is RunState.COMPLETED


@pytest.mark.parametrize(
    ("error", "state"), [(RuntimeError, RunState.FAILED), (KeyboardInterrupt, RunState.INTERRUPTED)]
)
def test_a_block_tells_how_the_run_ended(error, state):
    model = ppo()
    with pytest.raises(error), local() as callback:
        model.learn(64, callback=[callback, At(3, fail(error))])
    assert callback.recorder.snapshot().run_state is state
    assert callback.recorder.snapshot().tamiyo.updates == 2
    assert_untouched(model)


def test_without_a_block_the_next_learn_takes_over_after_an_error():
    callback, model = local(), ppo()
    with pytest.raises(RuntimeError):
        model.learn(64, callback=[callback, At(2, fail(RuntimeError))])
    assert callback.recorder.snapshot().run_state is RunState.RUNNING
    model.learn(32, callback=callback)
    assert callback.recorder.snapshot().run_state is RunState.COMPLETED
    assert callback.recorder.snapshot().record_errors == 0
    assert_untouched(model)


PROGRAM = """
import sys
from tests.support.sb3_reach import At, local, small_ppo as ppo
def wait(model):
    print(callback.recorder.url, flush=True)
    sys.stdin.readline()
    raise {error}
callback = local(linger=60)
try:
    ppo().learn(64, callback=[callback, At(2, wait)])
except {caught}:
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "caught", "state"),
    [("RuntimeError", "SystemExit", "failed"), ("KeyboardInterrupt", "KeyboardInterrupt", "interrupted")],
)
def test_without_a_block_the_end_of_the_program_tells(error, caught, state):
    program = PROGRAM.format(error=error, caught=caught)
    path = sys.path
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path = {path!r}\n{program}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        url = process.stdout.readline().strip() + "/metrics"
        assert 'state="running"} 1' in scrape(url)
        process.stdin.write("\n")
        process.stdin.flush()
        assert f'state="{state}"}} 1' in scrape_to_the_end(url)
        assert process.wait(30) == (state == "failed")


def test_ctrl_c_while_lingering_keeps_the_model(monkeypatch):
    monkeypatch.setattr(rl_exporter.server.scrapers.Scrapers, "wait", fail(KeyboardInterrupt))
    callback, model = local(), ppo()
    monkeypatch.setattr(
        rl_exporter.server.scrapers.Scrapers, "wait", lambda self, seconds: fail(KeyboardInterrupt)(self)
    )
    try:
        assert model.learn(32, callback=callback) is model
    except KeyboardInterrupt:
        pytest.fail("whoever trained the model lost it")
    assert callback.recorder.snapshot().run_state is RunState.COMPLETED


def test_the_documented_lines_run():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/sb3.md").read_text(), re.DOTALL)
    assert code.count("127.0.0.1:28008") == code.count("1_000_000") == 1
    names = {"model": ppo(Reach((4, 9)))}
    exec(code.replace(":28008", ":0").replace("1_000_000", "32"), names)
    snapshot = names["callback"].recorder.snapshot()
    assert (snapshot.run_state, snapshot.tamiyo.updates) == (RunState.COMPLETED, 2)
    assert snapshot.tamiyo.readings["arm"].measured


class Scored(Reach):
    """Its episodes report a score."""

    def __init__(self, score):
        super().__init__()
        self._score = score

    def step(self, action):
        *rest, _ = super().step(action)
        return *rest, {"metrics": {"score": self._score}}


def test_a_callback_that_goes_on_with_another_model_forgets_the_former_one():
    """Also one of another action space."""

    def numbers(callback, model):
        model.learn(64, callback=callback)
        snapshot = callback.recorder.snapshot()
        margins = {head: reading.advantage_margin for head, reading in snapshot.tamiyo.readings.items()}
        return margins, [one.value for one in snapshot.environment_metrics]

    shared = local()
    for first, second in ((Scored(1.0), Scored(9.0)), (Scored(1.0), Reach(sizes=(3, 5)))):
        numbers(shared, ppo(first))
        assert numbers(shared, ppo(second)) == numbers(local(), ppo(second))
        assert shared.recorder.snapshot().record_errors == 0
