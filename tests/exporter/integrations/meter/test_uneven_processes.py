"""Processes that train one policy and see different parts of an update: each case is an update of two of them."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist

from rl_exporter.integrations.torch import HeadMeter

SIZES = {"arm": 3, "leg": 5}
STEPS = 16
FAILS = "fails"

UPDATES = {
    "one stops early": ([STEPS] * 3, [STEPS, STEPS, 5]),
    "one has nothing": ([STEPS, STEPS], [0]),
    "one stops in its first epoch": ([STEPS, STEPS], [5]),
    "one fails": ([STEPS] * 4, [STEPS, FAILS]),
    "and again": ([STEPS] * 4, [STEPS, STEPS, FAILS, STEPS]),
    "epochs of unequal length": ([STEPS, 4], [4, STEPS]),
}
"""Steps of each epoch, by rank. An epoch of less than 16 steps is cut short, but for the last case."""
WHOLE = {"one stops early": 2, "one has nothing": 2, "epochs of unequal length": 2}
"""Epochs that count; nothing is measured in the others."""


def logits_of(steps, seed):
    return torch.randn(steps, sum(SIZES.values()), generator=torch.Generator().manual_seed(seed))


def log_probs_of(logits):
    """Made up, and so that some are clipped."""
    return logits[:, :2] * 0.2


def run_update(meter, name, rank, group=None):
    for epoch, steps in enumerate(UPDATES[name][rank]):
        if steps == FAILS:
            meter.add(torch.zeros(4, 99))
            continue
        logits = logits_of(steps, epoch + 10 * rank)
        log_probs = log_probs_of(logits)
        meter.add(logits, log_probs=log_probs, old_log_probs=torch.zeros_like(log_probs))
        if steps == STEPS or name == "epochs of unequal length":
            meter.end_epoch()
    return meter.result(group)


def process(rank, folder, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    # With epoch_steps a part of an epoch is no whole one, also where no epoch has ended.
    meter = HeadMeter(SIZES, epoch_steps=1000, lenient=True)
    for name in UPDATES:
        queue.put((name, run_update(meter, name, rank, dist.group.WORLD)))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    context, folder = multiprocessing.get_context("spawn"), tmp_path_factory.mktemp("processes")
    queue = context.Queue()
    processes = [context.Process(target=process, args=(rank, folder, queue)) for rank in range(2)]
    for one in processes:
        one.start()
    results = [queue.get(timeout=120) for _ in range(2 * len(UPDATES))]
    for one in processes:
        one.join(60)
        assert one.exitcode == 0
    return {name: [result for other, result in results if other == name] for name in UPDATES}


@pytest.mark.slow
@pytest.mark.parametrize("name", UPDATES)
def test_what_all_have_finished_counts(name, found):
    first, second = found[name]
    assert first == second, "every process gets the same"
    if name not in WHOLE:
        assert "entropy" not in first
        return
    epochs = [
        torch.cat([logits_of(steps[epoch], epoch + 10 * rank) for rank, steps in enumerate(UPDATES[name])
                   if epoch < len(steps) and steps[epoch]])
        for epoch in range(WHOLE[name])
    ]  # fmt: skip
    for head, logits in zip(
        SIZES, zip(*(one.split(list(SIZES.values()), 1) for one in epochs), strict=True), strict=True
    ):
        means = [torch.distributions.Categorical(logits=one.double()).entropy().mean().item() for one in logits]
        assert first["entropy"][head] == pytest.approx(sum(means) / len(means), abs=1e-6)
    ratios = torch.cat([log_probs_of(one) for one in epochs]).exp()
    outside = ((ratios < 0.8) | (ratios > 1.2)).any(1).double().mean().item()
    assert 0.1 < outside < 0.95
    assert first["clipped_share"] == pytest.approx(outside)
