"""Scripts for the growing network: each does only what is legal, and the search plays no episode twice."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.growing import BEGIN, END
from benchmarks.growing_baselines import follow, returns
from benchmarks.growing_scripts import BEST_SCRIPT, Planting, Script, decide, described
from benchmarks.growing_search import VALIDATION_SEED, Search, _changed, _random
from rl_training.action_space import Blueprint, Operation, Slot, Tempo
from rl_training.environments.growing import lifecycle
from rl_training.environments.growing.environment import GrowingNetworkEnv
from rl_training.environments.growing.lifecycle import Stage, dormant_slots, pass_step
from tests.support import ROOT

STEPS = 28
LAST = Planting(Slot.R0C2, Blueprint.CONV_SMALL)


def played(script):
    """Operations and stages of an episode; IllegalDecisionError for a decision that is not possible."""
    slots, operations, stages = dormant_slots(), [], []
    for step in range(STEPS):
        decision = decide(script, slots, step)
        slots = tuple(pass_step(slot) for slot in lifecycle.decide(slots, decision))
        operations.append(decision.operation)
        stages.append(tuple(slot.stage for slot in slots))
    return operations, stages


def test_a_script_does_only_what_is_legal():
    generator = np.random.default_rng(0)
    scripts = [_random(generator) for _ in range(200)]
    scripts += [_changed(script, generator) for script in scripts]
    seen = set()
    for script in [BEST_SCRIPT, *scripts]:
        operations, stages = played(script)
        # Slow modules leave no time for those after them.
        assert 1 <= operations.count(Operation.GERMINATE) <= len(script.plantings)
        assert len({planting.slot for planting in script.plantings}) == len(script.plantings)
        assert all(planting.blueprint is not Blueprint.NOOP for planting in script.plantings)
        if script.fossilize_from is None:
            assert Operation.FOSSILIZE not in operations
        seen.update(operations)
        seen.update(stages[-1])
    assert {Operation.FOSSILIZE, Operation.ADVANCE, Operation.WAIT, Stage.FOSSILIZED, Stage.HOLDING} <= seen


@pytest.mark.parametrize(
    ("changes", "trained", "blended"),
    [
        ({}, 3, 3),
        ({"hurry": True}, 2, 3),
        ({"training": 1}, 1, 2),
        ({"training": 3}, 3, 2),
        ({"blend": False}, 3, 1),
        ({"hurry": True, "training": 1, "blend": False}, 1, 1),
    ],
)
def test_a_module_spends_as_long_in_each_stage_as_its_script_says(changes, trained, blended):
    """A stage counts in the steps that train the network in it; leaving one takes the decision of a step."""
    stages = [stage for *_, stage in played(Script((LAST,), **changes))[1]]
    before = [Stage.GERMINATED] + [Stage.TRAINING] * trained + [Stage.BLENDING] * blended
    assert stages == before + [Stage.HOLDING] * (STEPS - len(before))


def test_a_planting_waits_for_its_step_and_a_tempo_counts():
    operations, _ = played(Script((replace(LAST, at=7),)))
    assert operations.index(Operation.GERMINATE) == 7
    _, stages = played(Script((replace(LAST, tempo=Tempo.SLOW),)))
    assert [stage for *_, stage in stages].count(Stage.TRAINING) == 8


def test_modules_become_permanent_from_the_step_on():
    operations, stages = played(Script((LAST,), fossilize_from=20))
    assert operations.index(Operation.FOSSILIZE) == 20
    assert stages[-1] == (Stage.DORMANT, Stage.DORMANT, Stage.FOSSILIZED)


def test_the_page_describes_the_best_script():
    page = (ROOT / "docs/environment.md").read_text()
    assert described(BEST_SCRIPT) in page.partition(BEGIN)[2].partition(END)[0]
    other = replace(BEST_SCRIPT, plantings=BEST_SCRIPT.plantings[::-1], hurry=not BEST_SCRIPT.hurry)
    assert described(other) not in page


@pytest.mark.slow
def test_the_search_plays_no_episode_twice_and_none_that_is_reported():
    threads = torch.get_num_threads()
    never, grown = Script(()), BEST_SCRIPT
    try:
        with ThreadPoolExecutor(1) as pool:
            search = Search(pool)
            assert search.best([never, grown], 1, 1) == [grown]
            first = search.returns[grown][0]
            search.best([grown], 1, 2)
    finally:
        torch.set_num_threads(threads)
    assert [len(search.returns[script]) for script in (never, grown)] == [1, 2]
    seeds = range(VALIDATION_SEED, VALIDATION_SEED + 2)
    assert search.returns[grown] == pytest.approx(returns(follow(grown), GrowingNetworkEnv(), seeds))
    assert search.returns[grown][0] == first
