"""Of processes that want one name one gets it, whatever the order of their steps, and nobody loses it again."""

import contextlib
import os

import pytest

from rl_exporter.discovery import ownership, registration
from rl_exporter.discovery.entry import STALE_SECONDS, entry_path, read_entry
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups
from rl_exporter.discovery.liveness import Liveness, is_dead
from rl_exporter.discovery.ownership import remove_file
from rl_exporter.discovery.registration import RegistrationError, claim
from tests.support.entries import age, files
from tests.support.interleaving import interleave, stop_at_every_step

OLD = STALE_SECONDS + 1


def listening(entry):
    """Whoever has published an address answers there."""
    return Liveness.UP if entry.address else Liveness.STARTING


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(registration, "liveness_probe", lambda: listening)


class Race:
    """A directory with one name, and what can be done to it. Each method is an action, or sets the stage."""

    def __init__(self, directory):
        self.path = entry_path(directory, "same", {})
        self.directory = directory
        self.opened = []

    def dead_file(self):
        self.path.write_bytes(dump_groups(TargetGroup([], {})))
        age(self.path, OLD)

    def dead_link(self):
        self.path.symlink_to("nothing")
        os.utime(self.path, (1, 1), follow_symlinks=False)

    def nothing(self):
        self.path.unlink(missing_ok=True)

    def standing_still(self):
        """A run that claimed the name, and then stood still for so long that it counts as dead."""
        self.owner = claim(self.directory, ["same"])
        self.opened.append(self.owner)
        age(self.path, OLD)

    def claim(self):
        try:
            won = claim(self.directory, ["same"])
        except RegistrationError as error:
            if "is already registered" not in str(error):
                raise
            return None
        self.opened.append(won)
        return won._content

    def prune(self):
        with contextlib.suppress(FileNotFoundError):
            entry = read_entry(self.path)
            if is_dead(entry, listening(entry)):
                remove_file(self.path, entry.version)

    def publish(self):
        try:
            self.owner.publish("node1:9")
        except RegistrationError as error:
            if "give another run_id" not in str(error):
                raise
            return None
        return self.owner._content

    def beat(self):
        """A heartbeat; it keeps the name if the entry is the run's own afterwards."""
        try:
            self.owner._heartbeat()
        except FileExistsError:
            return None
        return self.owner._content

    def leave(self):
        with contextlib.suppress(FileExistsError):
            self.owner._remove()

    def holds(self, actors):
        """Whoever has the name keeps it."""
        for actor in actors:
            if actor.outcome is not None:
                there = self.path.read_bytes() if self.path.exists() else None
                assert there == actor.outcome, f"{actor.name} had the name and lost it"

    def close(self):
        for entry in self.opened:
            entry.close()
        self.path.unlink(missing_ok=True)
        assert files(self.directory) == [], "no remnants"


def winners_of(race, stage, actions, seed):
    getattr(race, stage)()
    try:
        outcomes = interleave({f"{n} {name}": getattr(race, name) for n, name in enumerate(actions)}, seed,
                              race.holds)  # fmt: skip
        return [name for name, outcome in outcomes.items() if outcome is not None]
    finally:
        race.close()


RACES = [
    ("nothing", ("claim", "claim", "claim")),
    ("dead_file", ("claim", "claim", "claim")),
    ("dead_file", ("claim", "claim", "prune", "prune")),
    ("dead_link", ("claim", "claim", "prune")),
    ("standing_still", ("claim", "claim", "publish")),
    ("standing_still", ("claim", "claim", "beat")),
    ("standing_still", ("claim", "claim", "leave", "prune")),
]


def check_schedules(directory, race, seeds):
    for seed in seeds:
        winners = winners_of(Race(directory), *race, seed)
        assert len(winners) == 1, f"schedule {seed}: {winners or 'nobody'} got the name"


@pytest.mark.parametrize("race", RACES, ids=lambda race: " ".join((race[0], *race[1])))
@pytest.mark.parametrize("hard_links", [True, False], ids=["links", "no-links"])
def test_in_any_order_of_steps_one_process_gets_the_name_and_keeps_it(race, hard_links, tmp_path, monkeypatch):
    stop_at_every_step(monkeypatch, hard_links=hard_links)
    check_schedules(tmp_path, race, range(20))


@pytest.mark.slow
@pytest.mark.parametrize("race", RACES, ids=lambda race: " ".join((race[0], *race[1])))
def test_in_a_thousand_orders_of_steps(race, tmp_path, monkeypatch):
    stop_at_every_step(monkeypatch)
    check_schedules(tmp_path, race, range(1000, 2000))


@pytest.mark.parametrize("race", [RACES[1], RACES[4]], ids=["claim", "publish"])
def test_the_schedules_find_the_race_where_nobody_waits_for_the_other(race, tmp_path, monkeypatch):
    stop_at_every_step(monkeypatch)
    monkeypatch.setattr(ownership, "_lock", lambda descriptor, *, insist: None)
    with pytest.raises(AssertionError, match=r"got the name|and lost it"):
        check_schedules(tmp_path, race, range(400))
