"""HeadMeter inside training loops: graphs, compilers, several processes, gradients, and operations."""

import gc
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from rl_exporter.integrations.meter.uploads import on_device
from rl_exporter.integrations.torch import HeadMeter, Operations
from rl_training.algorithm.collector import step_masks
from tests.exporter.integrations.meter.test_head_meter import SIZES, logits_and_masks, measured, split
from tests.support.stand_in_gpu import stand_in_gpu

TOTAL = sum(SIZES.values())


def test_nothing_that_is_kept_holds_the_graph():
    class Saved:
        pass

    class Marked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits, marker):
            ctx.marker = marker
            return logits.clone()

        @staticmethod
        def backward(ctx, upstream):
            return upstream, None

    marker = Saved()
    dead = weakref.ref(marker)
    logits, masks = logits_and_masks()
    meter = HeadMeter(SIZES)
    through = Marked.apply(logits.requires_grad_(), marker)
    meter.add(through, masks, log_probs=through[:, :3], old_log_probs=through[:, :3], advantages=through[:, 0])
    meter.end_epoch()
    del through, marker
    gc.collect()
    assert dead() is None
    assert meter.result()["entropy"]


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_on_a_gpu_the_host_waits_once_an_update(monkeypatch, masked, by_name):
    logits, masks = logits_and_masks()
    layer, policy = nn.Linear(4, TOTAL), Policy()
    meter = HeadMeter(SIZES, lenient=True)  # it never checks the masks of the first minibatch, which would wait
    for module in (layer, policy):
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
    with stand_in_gpu(monkeypatch, on_host=meter._update._former) as traffic:
        for _ in range(2):
            for part, own in zip(logits.split(50), masks.split(50), strict=True):
                meter.add(part, own if masked else None, log_probs=part[:, :3], old_log_probs=part[:, :3])
                meter.gradients(policy.heads if by_name else layer)
            meter.end_epoch()
        assert traffic.waits == []
        found = meter.measured()
    assert traffic.waits == ["cpu"]
    # A measurement that failed would wait as often.
    assert all(len(history) == 2 for history in found.head_entropy_history.values())
    assert set(found.head_gradient_norm) == set(SIZES)


@pytest.mark.parametrize("by_head", [True, False])
def test_what_a_loop_keeps_on_the_host_goes_to_the_gpu_without_a_wait(monkeypatch, by_head):
    logits, masks = logits_and_masks()
    steps, parts = len(logits), split(masks)
    drawn = [(part * torch.rand(part.shape)).argmax(1) for part in parts.values()]
    kept = {
        "actions": torch.stack(drawn, 1), "old_log_probs": torch.randn(3).expand(steps, 3),
        "advantages": torch.randn(steps), "valid": torch.rand(steps) < 0.7,
    }  # fmt: skip
    found = []
    for on_gpu in (False, True):
        meter = HeadMeter(SIZES, lenient=True)
        host = (*meter._update._former, masks, *parts.values(), *kept.values())
        with stand_in_gpu(monkeypatch, on_host=host) if on_gpu else nullcontext() as traffic:
            meter.add(logits, parts if by_head else masks, log_probs=logits[:, :3], **kept)
            meter.end_epoch()
            assert not on_gpu or (traffic.waits == [] and len(traffic.uploads) >= 5)
            found.append(meter.result())
    assert found[0] == found[1]
    assert found[0].keys() >= {"choice_entropy", "head_importance_ratio_max", "advantage_margin"}


def test_page_locked_memory_of_the_loop_is_copied_at_once(monkeypatch):
    """The device copies it later, when the loop may have written into it."""
    own, sent = torch.arange(3), []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda one: one if one is own else one.clone())
    monkeypatch.setattr(torch.Tensor, "to", lambda one, *_, **__: sent.append(one))
    on_device(own, torch.device("cuda"))
    own.zero_()
    assert sent[0].tolist() == [0, 1, 2]


def test_gradients_that_come_before_the_first_logits_of_a_gpu_count(monkeypatch):
    """The meter learns from the first logits where the policy lies."""
    logits, _ = logits_and_masks()
    layer = nn.Linear(4, TOTAL)
    found = []
    for on_gpu in (False, True):
        with stand_in_gpu(monkeypatch) if on_gpu else nullcontext():
            meter = HeadMeter(SIZES)
            for step in (0, 1):
                for parameter in layer.parameters():
                    parameter.grad = torch.full_like(parameter, 1.0 + step)
                meter.gradients(layer, ahead=1 + step)
            meter.add(logits[:100])
            meter.add(logits[100:])
            found.append(meter.result())
    assert found[0] == found[1]
    # The mean of both steps: 1.5 times the root of the number of parameters of a head.
    norms = {name: 1.5 * np.sqrt(5 * size) for name, size in SIZES.items()}
    assert found[1]["head_gradient_norm"] == pytest.approx(norms)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.heads = nn.ModuleDict({name: nn.Linear(8, size) for name, size in SIZES.items()})

    def forward(self, observations):
        features = self.body(observations).tanh()
        return [head(features) for head in self.heads.values()]


def trained(meter, policy, compiled=None):
    observations = torch.randn(64, 6, generator=torch.Generator().manual_seed(3))

    def loss(batch):
        logits = policy(batch)
        meter.add(logits)
        return sum(part.square().mean() for part in logits)

    step = torch.compile(loss, backend=compiled, fullgraph=True) if compiled else loss
    for batch in observations.split(32):
        policy.zero_grad()
        step(batch).backward()
        meter.gradients(policy.heads)
    return meter.result()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_loss_without_graph_breaks(backend):
    torch.manual_seed(0)
    policy = Policy()
    expected = trained(HeadMeter(SIZES), policy)
    torch._dynamo.reset()
    found = trained(HeadMeter(SIZES), policy, backend)
    for number, heads in expected.items():
        for name, value in heads.items():
            assert found[number][name] == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_a_compiled_loss_outlives_its_meter():
    policy, meter = Policy(), HeadMeter(SIZES)
    torch._dynamo.reset()
    step = torch.compile(lambda batch: meter.add(policy(batch)), backend="eager", fullgraph=True)
    step(torch.zeros(4, 6))
    assert meter.result()["entropy"]["arm"] > 0


def test_under_autocast_entropies_are_single_precision():
    torch.manual_seed(0)
    policy, meter = Policy(), HeadMeter(SIZES)
    observations = torch.randn(64, 6)
    with torch.autocast("cpu", torch.bfloat16):
        logits = policy(observations)
        assert logits[1].dtype is torch.bfloat16
        meter.add(logits)
    found = meter.result()["entropy"]["leg"]
    exact = torch.distributions.Categorical(logits=logits[1].double()).entropy().mean().item()
    assert found == pytest.approx(exact, abs=1e-6)


def test_under_autocast_results_are_as_without():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, TOTAL, generator=generator) * 3
    masks = torch.rand(200, TOTAL, generator=generator) < 0.7
    masks[:, [0, 3, 8]] = True
    found = []
    for under in (True, False):
        meter = HeadMeter(SIZES)
        with torch.autocast("cpu", torch.bfloat16, enabled=under):
            for _ in range(2):
                meter.add(logits, masks)
                meter.end_epoch()
            found.append(meter.result())
    assert found[0] == found[1]


def test_gradient_norms_before_clipping():
    torch.manual_seed(0)
    flat, policy = nn.Linear(6, TOTAL), Policy()
    by_row, by_name = HeadMeter(SIZES), HeadMeter(SIZES)
    norms = []
    for step in range(2):
        for module in (flat, policy):
            module.zero_grad()
        batch = torch.randn(32, 6)
        logits, parts = flat(batch), policy(batch)
        (logits.square().mean() * (step + 1)).backward()
        sum(part.square().mean() for part in parts).backward()
        by_row.add(logits)
        by_name.add(parts)
        by_row.gradients(flat)
        by_name.gradients({name: policy.heads[name] for name in ("arm", "leg")})
        rows = torch.cat([flat.weight.grad, flat.bias.grad[:, None]], 1)
        norms.append([part.norm().item() for part in split(rows.T).values()])
        nn.utils.clip_grad_norm_(flat.parameters(), 1e-6)
    found = by_row.result()["head_gradient_norm"]
    assert list(found.values()) == pytest.approx(np.mean(norms, 0).tolist(), rel=1e-5)
    assert set(by_name.result()["head_gradient_norm"]) == {"arm", "leg"}, "fixed was not given"


@pytest.mark.parametrize("consult", [None, ((), ("arm",), ("arm", "leg"))])
def test_operations_are_those_of_the_trainer(consult):
    sizes = {"op": 3, "arm": 4, "leg": 2}
    generator = np.random.default_rng(0)
    masks = generator.random((50, 3, 9)) < 0.6
    masks[:, :, :3] = masks[:, :1, :3]
    masks[:, :, [0, 3, 7]] = True
    logits = generator.standard_normal((50, 9)).astype(np.float32)
    operations = np.array([generator.choice(np.flatnonzero(row[0, :3])) for row in masks])
    actions = np.stack([operations, np.zeros(50, int), np.zeros(50, int)], 1)
    meter = HeadMeter(sizes, operations=Operations("op", consult))
    meter.add(torch.tensor(logits), torch.tensor(masks), actions=torch.tensor(actions))
    found = meter.result()
    used = None if consult is None else np.array([[True, n in one, n in one] for one in consult for n in [0]])
    if consult is not None:
        used = np.array([[True, "arm" in one, "leg" in one] for one in consult])
    expected = step_masks(masks, operations, meter._layout, used)
    assert list(found["open_share"].values()) == pytest.approx(expected.open.mean(0).tolist())
    choice = expected.choice if used is None else expected.choice & used[operations]
    assert list(found["choice_share"].values()) == pytest.approx(choice.mean(0).tolist())
    under_step = measured(torch.tensor(logits), torch.tensor(expected.step), sizes)["entropy"]
    assert found["entropy"] == pytest.approx(under_step, abs=1e-6)


def part_of_rank(rank, folder, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    logits, masks = logits_and_masks()
    meter = HeadMeter(SIZES)
    own = slice(0, 120) if rank == 0 else slice(120, 200)
    meter.add(logits[own], masks[own])
    queue.put(meter.result(group=dist.group.WORLD))
    if rank == 1:
        meter._failure = ZeroDivisionError("planted")
    meter.add(logits[own], masks[own])
    queue.put(meter.result(group=dist.group.WORLD))
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_add_up_and_one_that_fails_keeps_no_other_waiting(tmp_path):
    context = mp.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=part_of_rank, args=(rank, tmp_path, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    assert [process.exitcode for process in processes] == [0, 0]
    found = [queue.get(timeout=30) for _ in range(4)]
    expected = measured(*logits_and_masks())
    whole = [one for one in found if one]
    assert len(whole) == 2, "after a failure no process has numbers"
    for one in whole:
        for number, heads in expected.items():
            for name, value in heads.items():
                assert one[number][name] == pytest.approx(value, abs=1e-6)
