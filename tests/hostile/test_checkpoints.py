"""Checkpoints of a hostile or failing disk: every flipped bit is found, every malformed one is one line."""

import random
import zipfile

import pytest
import torch

from rl_training.run import checkpoint_file
from rl_training.run.checkpoint import load, save
from rl_training.run.checkpoint_file import DamagedError, read_state
from rl_training.run.checkpoint_folder import CheckpointError
from rl_training.run.cli import main
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
from tests.hostile.malformed_checkpoints import MALFORMED
from tests.support.former_checkpoints import former
from tests.support.small_runs import FIXED, setup

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a checkpoint, the state in it, and an agent that it fits."""
    return _written(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def formerly_written(tmp_path_factory):
    """A state of the first format, and an agent that it fits."""
    _, state, agent = _written(tmp_path_factory.mktemp("formerly"), critic="shared")
    return former(state, 1), agent


def _written(folder, **options):
    agent, collector, aggregator = setup(**options)
    emitter = Emitter([aggregator], aggregator.count_record_error)
    train(agent, collector, emitter, Limits(3, None), lambda: False)
    save(folder, agent, collector, aggregator.snapshot())
    path = folder / "checkpoint.pt"
    return path.read_bytes(), read_state(path, CPU), agent


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits_to_flip(content, others):
    """All of the first kilobyte, where the formats are told apart, and many of the rest."""
    chance = random.Random(0)
    return [*range(8 * 1024), *(chance.randrange(8 * len(content)) for _ in range(others))]


@pytest.mark.slow
def test_every_flipped_bit_is_found(written, tmp_path):
    content, *_ = written
    path = tmp_path / "checkpoint.pt"
    found = 0
    for bit in bits_to_flip(content, 3000):
        path.write_bytes(flipped(content, bit))
        with pytest.raises(DamagedError):
            read_state(path, CPU)
        found += 1
    assert found == 8 * 1024 + 3000


@pytest.mark.slow
def test_a_flipped_bit_would_load_without_the_checksum(written, tmp_path, monkeypatch):
    """So the checksum finds what torch does not."""
    content, *_ = written
    monkeypatch.setattr(checkpoint_file, "_checked", lambda content: content[content.index(b"\nPK") + 1 :])
    path = tmp_path / "checkpoint.pt"
    loaded = 0
    for bit in bits_to_flip(content, 100)[8 * 1024 :]:
        path.write_bytes(flipped(content, bit))
        try:
            read_state(path, CPU)
        except DamagedError:
            continue
        loaded += 1
    assert loaded > 50


def test_a_checkpoint_of_the_first_format_goes_on_and_its_weaker_checksums_are_checked(
    formerly_written, tmp_path
):
    state, agent = formerly_written
    path = tmp_path / "checkpoint.pt"
    torch.save(state, path)
    assert load(tmp_path, agent).snapshot.tamiyo.updates == 3
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        begin = content.index(archive.read(largest))
    path.write_bytes(flipped(content, 8 * begin + 77))
    with pytest.raises(CheckpointError, match=r"is damaged: the checksum of .* does not fit"):
        load(tmp_path, agent)


def test_an_entry_of_the_first_format_that_became_a_folder_is_refused(formerly_written, tmp_path):
    """torch reads it as one without content: whatever the memory held before becomes a weight."""
    state, agent = formerly_written
    path = tmp_path / "checkpoint.pt"
    torch.save(state, path)
    content = path.read_bytes()
    entry = content.index(b"PK\x01\x02")  # the first one of the directory at the end of the archive
    assert content[entry + 38] == 0, "the attributes of MS-DOS"
    path.write_bytes(flipped(content, 8 * (entry + 38) + 4))
    with pytest.raises(CheckpointError, match=r"is damaged: the checksum of .* does not fit"):
        load(tmp_path, agent)


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_checkpoint_is_one_line(kind, written, tmp_path, monkeypatch):
    content, state, agent = written
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "state"
    folder.mkdir()
    MALFORMED[kind](folder / "checkpoint.pt", content, state)
    with pytest.raises(CheckpointError) as raised:
        load(folder, agent)
    said = str(raised.value)
    assert "\n" not in said
    assert len(said) < 500
    assert str(folder / "checkpoint.pt") in said
    assert "; " in said, "what to do about it"
    assert list(tmp_path.iterdir()) == [folder], "nothing in it is run"


def test_the_untouched_one_is_none_of_these(written, tmp_path):
    content, _, agent = written
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert load(tmp_path, agent).snapshot.tamiyo.updates == 3


@pytest.mark.parametrize("kind", ["cut in the middle", "an optimizer of another size", "a pipe"])
def test_the_command_says_it_in_one_line_too(kind, written, tmp_path, capsys):
    content, state, _ = written
    MALFORMED[kind](tmp_path / "checkpoint.pt", content, state)
    assert main([*FIXED, "--checkpoint", str(tmp_path), "--resume", "--updates", "9"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("rl-train: error: checkpoint ")
    assert said.count("\n") == 1
