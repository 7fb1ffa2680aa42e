"""Checkpoints of a hostile or failing disk: every flipped bit is found, every malformed one is one line."""

import copy
import os
import pickle
import random
import zipfile

import pytest
import torch

from rl_training.run import checkpoint_file
from rl_training.run.checkpoint import CheckpointError, load, save
from rl_training.run.checkpoint_file import DamagedError, read_state, write_state
from rl_training.run.cli import main
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
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


def rewritten(**changes):
    """The state with other values, and with a checksum that fits: somebody made it."""

    def make(path, content, state):
        write_state(path, copy.deepcopy(state) | changes)

    return make


def inside(part, **changes):
    def make(path, content, state):
        changed = copy.deepcopy(state)
        changed[part] |= changes
        write_state(path, changed)

    return make


def without(*keys):
    def make(path, content, state):
        changed = copy.deepcopy(state)
        owner = changed
        for key in keys[:-1]:
            owner = owner[key]
        del owner[keys[-1]]
        write_state(path, changed)

    return make


def moments(change):
    def make(path, content, state):
        changed = copy.deepcopy(state)
        change(changed["agent"]["optimizer"])
        write_state(path, changed)

    return make


def raw(make):
    return lambda path, content, state: path.write_bytes(make(content))


def saved(value):
    return lambda path, content, state: write_state(path, value)


class Mischief:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


def wrong_size(optimizer):
    optimizer["state"][0]["exp_avg"] = torch.zeros(3)


def too_many(optimizer):
    optimizer["state"][10_000] = {"exp_avg": torch.zeros(3)}


def other_groups(optimizer):
    optimizer["param_groups"] = []


def no_mapping(optimizer):
    optimizer["state"] = [1, 2]


def directory(path, content, state):
    path.mkdir()


def pipe(path, content, state):
    os.mkfifo(path)


def loop(path, content, state):
    path.symlink_to(path)


def link_to(target):
    return lambda path, content, state: path.symlink_to(target)


def huge(path, content, state):
    with path.open("wb") as file:
        file.truncate(2**40)


def bare_pickle(path, content, state):
    path.write_bytes(pickle.dumps(state["progress"]))


def mischief_of_format_1(path, content, state):
    torch.save({"format": Mischief()}, path)


MALFORMED = {
    "empty": raw(lambda content: b""),
    "one byte": raw(lambda content: content[:1]),
    "the first line alone": raw(lambda content: content[:22]),
    "half the checksum": raw(lambda content: content[:50]),
    "no state": raw(lambda content: content[:87]),
    "cut in the middle": raw(lambda content: content[: len(content) // 2]),
    "cut by a byte": raw(lambda content: content[:-1]),
    "a byte more": raw(lambda content: content + b"\0"),
    "two in one": raw(lambda content: content + content),
    "capital checksum": raw(lambda content: content[:22] + content[22:87].upper() + content[87:]),
    "text": raw(lambda content: b"this is no checkpoint\n" * 100),
    "zeros": raw(lambda content: bytes(len(content))),
    "noise": raw(lambda content: random.Random(0).randbytes(10_000)),
    "an empty archive": raw(lambda content: b"PK\5\6" + bytes(18)),
    "half an archive": raw(lambda content: content[87 : len(content) // 2]),
    "a pickle": bare_pickle,
    "code": saved({"format": Mischief()}),
    "code of format 1": mischief_of_format_1,
    "a tensor": saved(torch.zeros(3)),
    "a list": saved([1, 2]),
    "a text": saved("format 2"),
    "nothing in it": saved({}),
    "another format": rewritten(format=4),
    "a format that is none": rewritten(format={"format": 2}),
    "no shape": without("shape"),
    "a shape that is none": rewritten(shape=7),
    "heads that are none": rewritten(shape={"heads": [[1, [2]], "x"], "observation_size": 1, "hidden": 1}),
    "no agent": without("agent"),
    "an agent that is none": rewritten(agent=[]),
    "no parameters": without("agent", "network"),
    "a parameter less": without("agent", "network", "actor.encoder.weight"),
    "parameters of another size": inside("agent", network={"actor.encoder.weight": torch.zeros(2, 2)}),
    "no optimizer": without("agent", "optimizer"),
    "an optimizer of another size": moments(wrong_size),
    "an optimizer of more": moments(too_many),
    "an optimizer of other groups": moments(other_groups),
    "an optimizer of no mapping": moments(no_mapping),
    "a generator that is none": inside("agent", shuffle="{"),
    "a generator of another kind": inside("agent", shuffle='{"bit_generator": "MT19937"}'),
    "advantage sums of another size": inside("agent", advantage_sums=torch.zeros(3, 1)),
    "an advantage scale of another size": inside("agent", advantage_scale=torch.zeros(3)),
    "an advantage scale that is none": inside("agent", advantage_scale="1"),
    "no progress": without("progress"),
    "no episodes": inside("progress", episodes=[]),
    "episodes that are none": inside("progress", episodes=["many"]),
    "negative episodes": inside("progress", episodes=[-1, 2]),
    "more episodes than a number holds": inside("progress", episodes=[10**30, 1]),
    "returns that are none": inside("progress", returns=["high"]),
    "lengths that are none": inside("progress", lengths=["long"]),
    "negative lengths": inside("progress", lengths=[-1]),
    "reports that are none": inside("progress", metrics=["good"]),
    "reports of other names": inside("progress", metrics=[{"Bad Name": 1.0}]),
    "reports of texts": inside("progress", metrics=[{"x": "much"}]),
    "no metrics": without("metrics"),
    "metrics that are none": rewritten(metrics="up 1\n"),
    "metrics that are no text": rewritten(metrics=[1]),
    "metrics of other heads": lambda path, content, state: write_state(
        path, state | {"metrics": state["metrics"].replace('head="op"', 'head="po"')}
    ),
    "a folder": directory,
    "a pipe": pipe,
    "a link to itself": loop,
    "a link to nothing": link_to("nothing"),
    "an endless device": link_to("/dev/zero"),
    "a terminal": link_to("/dev/ptmx"),
    "a terabyte of nothing": huge,
}


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
