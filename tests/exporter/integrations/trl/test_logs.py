"""Which logs of TRL's trainers are updates, and what they do not measure."""

import pytest

from tests.exporter.integrations.trl.learning import learn, local
from tests.support import tiny_language

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        # The log of the third step is the summary at the end.
        ({"max_steps": 3}, (2, 1)),
        # After an evaluation, too, logs of steps are updates, and those of evaluations are not.
        ({"max_steps": 4, "eval_strategy": "steps", "eval_steps": 3, "per_device_eval_batch_size": 16}, (2, 2)),
    ],
)
def test_an_update_is_a_log_with_all_steps_since_the_last_one(model, options, steps):
    callback = local()
    trainer = learn(model, callback, logging_steps=2, **options)
    logs = [log for log in trainer.state.log_history if "entropy" in log]
    assert any("eval_entropy" in log for log in trainer.state.log_history) == ("eval_steps" in options)
    snapshot = callback.recorder.snapshot()
    assert (snapshot.tamiyo.updates, snapshot.episodes) == (2, 4 * sum(steps))
    assert snapshot.tamiyo.readings["token"].entropy == logs[-1]["entropy"]
    seconds = sum(log["step_time"] * count for log, count in zip(logs, steps, strict=True))
    assert snapshot.update_durations.sum == pytest.approx(seconds)


def test_the_entropy_of_no_token_is_not_measured(model):
    callback = local()
    trainer = learn(model, callback, max_completion_length=1, mask_truncated_completions=True, temperature=0.05)
    logs = [log for log in trainer.state.log_history if "entropy" in log]
    assert [(log["entropy"], log["completions/clipped_ratio"]) for log in logs] == [(0.0, 1.0)] * 2
    snapshot = callback.recorder.snapshot()
    assert snapshot.tamiyo.updates == 2
    assert not snapshot.tamiyo.readings["token"].measured


def test_a_trainer_that_logs_no_entropy_is_named_once(model, caplog):
    callback = local()
    tiny_language.supervised(model, [callback]).train()
    assert [record.message for record in caplog.records if record.name == "rl_exporter"] == [
        "the trainer of TrainingArguments logs no entropy, so the head 'token' is not measured; GRPO and RLOO log it"
    ]
    snapshot = callback.recorder.snapshot()
    assert (snapshot.tamiyo.updates, snapshot.tamiyo.readings["token"].measured) == (2, False)
    assert snapshot.tamiyo.policy_loss > 0


def test_a_divergence_from_no_reference_model_is_not_called_one():
    from rl_exporter.integrations.trl.log import reports

    assert reports({"kl": 0.1}, penalized=True) == {"reference_kl_nats": 0.1}
    assert reports({"kl": 0.1}, penalized=False) == {}
