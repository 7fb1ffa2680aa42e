"""Whatever happens in HeadEntropyCallback of TRL: the training is as it was without it."""

import pytest
import torch

import rl_exporter
from tests.exporter.integrations.trl.learning import learn, local

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


def test_training_is_the_same_with_it(model):
    alone, watched = learn(model, max_steps=3), learn(model, local(), max_steps=3)
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name


def test_an_error_in_it_never_reaches_the_training(model, monkeypatch, caplog):
    callback = local()

    def broken(self, *arguments, **keywords):
        raise RuntimeError("broken telemetry")

    monkeypatch.setattr(rl_exporter.HeadRecorder, "record", broken)
    trainer = learn(model, callback, max_steps=3)
    assert trainer.state.global_step == 3
    assert callback.recorder.snapshot().record_errors == 3
    assert [record.message for record in caplog.records if record.name == "rl_exporter"] == [
        "telemetry failed; training goes on, further errors are only counted"
    ]
