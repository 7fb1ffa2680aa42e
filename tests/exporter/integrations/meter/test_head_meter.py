"""HeadMeter against references that share no code with it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.stats import entropy as scipy_entropy
from scipy.stats import ttest_ind

import rl_exporter
from rl_exporter.integrations.torch import HeadMeter
from tests.support.random_policies import by_scipy, by_solver, policies

SIZES = {"arm": 3, "leg": 5, "fixed": 1}


def logits_and_masks(steps=200, seed=0, sizes=SIZES):
    generator = torch.Generator().manual_seed(seed)
    total = sum(sizes.values())
    logits = 2 * torch.randn(steps, total, generator=generator)
    masks = torch.rand(steps, total, generator=generator) < 0.7
    masks[:, np.cumsum([0, *list(sizes.values())[:-1]])] = True
    return logits, masks


def split(rows, sizes=SIZES):
    return dict(zip(sizes, torch.split(rows, list(sizes.values()), -1), strict=True))


def measured(logits, masks=None, sizes=SIZES, **given):
    meter = HeadMeter(sizes)
    meter.add(logits, masks, **given)
    return meter.result()


@settings(max_examples=40, deadline=None)
@given(policies(least=20))
def test_every_number_equals_a_reference(policy):
    names = [f"h{i}" for i in range(len(policy.sizes))]
    meter = HeadMeter(dict(zip(names, policy.sizes, strict=True)))
    meter.add(torch.tensor(policy.logits), torch.tensor(policy.masks), consulted=torch.tensor(policy.choosing))
    found = meter.result()
    bounds = np.cumsum(policy.sizes)[:-1]
    parts = zip(*(np.split(part, bounds, 1) for part in (policy.logits, policy.masks)), strict=True)
    at_choices = policy.heads()
    for name, (logits, masks), chosen in zip(names, parts, policy.choosing.T, strict=True):
        kept = np.where(masks, logits.astype(float), -np.inf)
        weights = np.exp(kept - kept.max(1, keepdims=True))
        entropies = scipy_entropy(weights, axis=1)
        assert found["entropy"][name] == pytest.approx(entropies.mean(), abs=1e-6)
        assert found["choice_share"][name] == pytest.approx(chosen.mean())
        assert found["open_share"][name] == 1.0
        probabilities, allowed = next(at_choices)
        if not chosen.any():
            assert name not in found.get("choice_entropy", {})
            continue
        ratios = entropies[chosen] / np.log(masks[chosen].sum(1))
        assert found["choice_entropy"][name] == pytest.approx(ratios.mean(), abs=1e-6)
        assert found["action_shares"][name] == pytest.approx(probabilities.mean(0), abs=1e-6)
        if name in found.get("state_information", {}):
            expected = by_solver(probabilities, allowed)
            assert found["state_information"][name] == pytest.approx(expected, abs=1e-2)


def test_without_masks_state_information_is_mutual_information():
    logits, _ = logits_and_masks()
    found = measured(logits)
    for name, part in split(logits.double()).items():
        probabilities = part.softmax(1).numpy()
        if name == "fixed":
            assert name not in found["state_information"]
            continue
        assert found["state_information"][name] == pytest.approx(by_scipy(probabilities), abs=1e-6)
    assert "choice_share" not in found, "nothing was masked, and nobody gave masks"
    assert set(found["entropy"]) == set(SIZES)


FORMS = {
    "flat": lambda rows: rows,
    "any leading shape": lambda rows: rows.reshape(10, 20, -1),
    "one for each head": lambda rows: list(split(rows).values()),
    "by name": lambda rows: dict(reversed(split(rows).items())),
    "padded": lambda rows: torch.stack(
        [torch.nn.functional.pad(part, (0, 5 - part.shape[1])) for part in split(rows).values()], 1
    ),
    "sequences": lambda rows: torch.nested.as_nested_tensor(list(rows.split([50, 150])), layout=torch.jagged),
    "sequences of old": lambda rows: torch.nested.as_nested_tensor(list(rows.split([50, 150]))),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form):
    logits, masks = logits_and_masks()
    expected = measured(logits, masks)
    assert measured(FORMS[form](logits), masks) == expected
    assert measured(logits, FORMS[form](masks)) == expected


def test_distributions_are_logits():
    logits, _ = logits_and_masks()
    found = measured([torch.distributions.Categorical(logits=part) for part in split(logits).values()])
    for name, values in measured(logits)["entropy"].items():
        assert found["entropy"][name] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("hidden", ["-inf", "-1e8", "min"])
def test_logits_show_their_masks(dtype, hidden):
    logits, masks = logits_and_masks()
    logits = logits.to(dtype)
    lowest = torch.finfo(dtype).min
    value = {"-inf": -torch.inf, "-1e8": max(-1e8, lowest), "min": lowest}[hidden]
    shown = measured(torch.where(masks, logits, value))
    for number, heads in measured(logits, masks).items():
        for name, expected in heads.items():
            assert shown[number][name] == pytest.approx(expected, abs=1e-5), (number, name)


@pytest.mark.parametrize("distance", [50.0, 120.0, 9_000.0])
def test_a_hard_collapse_is_no_mask(distance):
    """Probabilities underflow to 0, and the head still had its choice."""
    logits = torch.zeros(40, 4)
    logits[:, 2] = distance
    found = measured(logits, sizes={"a": 4})
    assert found["entropy"]["a"] < 1e-6
    assert "choice_share" not in found
    assert found["action_shares"]["a"] == pytest.approx((0.0, 0.0, 1.0, 0.0))
    assert found["state_information"]["a"] == pytest.approx(0.0, abs=1e-9)


def test_padding_counts_nowhere():
    logits, masks = logits_and_masks()
    valid = torch.arange(200) % 3 > 0
    spoiled = torch.where(valid[:, None], logits, torch.nan)
    found = measured(spoiled.reshape(4, 50, -1), masks.reshape(4, 50, -1), valid=valid.reshape(4, 50))
    expected = measured(logits[valid], masks[valid])
    assert found.keys() == expected.keys()
    for number, heads in expected.items():
        for name, value in heads.items():
            assert found[number][name] == pytest.approx(value, abs=1e-6)


def test_epochs_weigh_the_same_and_the_last_one_tells_of_decisions():
    logits, masks = logits_and_masks()
    later = logits * 3
    meter = HeadMeter(SIZES)
    for epoch in (logits, later):
        for part, own in zip(epoch.split(70), masks.split(70), strict=True):
            meter.add(part, own)
        meter.end_epoch()
    found = meter.result()
    first, last = measured(logits, masks), measured(later, masks)
    for number in ("entropy", "choice_entropy"):
        for name in ("arm", "leg"):
            mean = (first[number][name] + last[number][name]) / 2
            assert found[number][name] == pytest.approx(mean, abs=1e-9)
    assert found["action_shares"]["leg"] == pytest.approx(last["action_shares"]["leg"], abs=1e-9)
    assert found["state_information"] == pytest.approx(last["state_information"], abs=1e-6)
    assert meter.result() == {}, "the next update has measured nothing yet"


@pytest.mark.parametrize("by_steps", [True, False])
def test_an_epoch_cut_short_counts_nowhere(by_steps):
    logits, masks = logits_and_masks()
    meter = HeadMeter(SIZES, epoch_steps=200 if by_steps else None)
    for part, own in [*zip(logits.split(100), masks.split(100), strict=True)]:
        meter.add(part, own)
    if not by_steps:
        meter.end_epoch()
    meter.add(logits[:60] * 9, masks[:60])
    assert meter.result() == measured(logits, masks)


def test_an_update_without_a_whole_epoch():
    logits, masks = logits_and_masks()
    strict, partial = (HeadMeter(SIZES, epoch_steps=200, partial_epochs=part) for part in (False, True))
    for meter in (strict, partial):
        meter.add(logits[:60], masks[:60])
    assert strict.result() == {}
    assert partial.result() == measured(logits[:60], masks[:60])


def test_ratios_of_heads_and_of_the_policy():
    logits, masks = logits_and_masks()
    old, new = 0.1 * torch.randn(2, 200, 3, generator=torch.Generator().manual_seed(1))
    choice = torch.stack([part.sum(1) >= 2 for part in split(masks).values()], 1)
    ratio = torch.where(choice, (new - old).exp(), 1.0)
    found = measured(logits, masks, log_probs=new, old_log_probs=old)
    for index, name in enumerate(("arm", "leg")):
        largest = ratio[choice[:, index], index].max().item()
        assert found["head_importance_ratio_max"][name] == pytest.approx(largest)
    assert "fixed" not in found["head_importance_ratio_max"]
    assert found["clipped_share"] == pytest.approx(((ratio - 1).abs() > 0.2).any(1).double().mean().item())

    joint = measured(logits, masks, log_probs=new.sum(1), old_log_probs=old.sum(1))
    outside = ((new - old).sum(1).exp() - 1).abs() > 0.2
    assert joint["clipped_share"] == pytest.approx((outside & choice.any(1)).double().mean().item())
    assert "head_importance_ratio_max" not in joint


@pytest.mark.parametrize("whole", [True, False])
def test_the_margin_is_welchs(whole):
    logits, _ = logits_and_masks()
    generator = np.random.default_rng(2)
    actions = generator.integers(0, [3, 5, 1], (200, 3))
    advantages = generator.standard_normal(200) + (actions[:, 1] == 1)
    meter = HeadMeter(SIZES)
    given = {"actions": torch.tensor(actions), "advantages": torch.tensor(advantages)}
    if whole:
        meter.add_rollout(given["actions"], given["advantages"])
        meter.add(logits)
    else:
        meter.add(logits, **given)
    found = meter.result()
    for index, name in enumerate(("arm", "leg")):
        shares = found["action_shares"][name]
        leading = actions[:, index] == shares.index(max(shares))
        expected = ttest_ind(advantages[leading], advantages[~leading], equal_var=False).statistic
        assert found["advantage_margin_t"][name] == pytest.approx(expected, rel=1e-6)
    assert "fixed" not in found["advantage_margin_t"]


def test_what_is_not_finite_is_counted_and_in_no_mean():
    logits, masks = logits_and_masks()
    clean = measured(logits[5:], masks[5:])
    masks[:5] = True
    logits[:2, 0], logits[1:5, 1] = torch.nan, torch.inf
    found = measured(logits, masks)
    assert found["nan_steps"] == {"arm": 2}
    assert found["inf_steps"] == {"arm": 3}
    assert found["entropy"]["arm"] == pytest.approx(clean["entropy"]["arm"], abs=1e-9)
    assert found["action_shares"]["arm"] == pytest.approx(clean["action_shares"]["arm"], abs=1e-9)


def test_a_mask_that_allows_nothing_later_on_is_said_and_not_measured(caplog):
    logits, masks = logits_and_masks()
    meter = HeadMeter(SIZES)
    meter.add(logits, masks)
    meter.result()
    masks[7:9, 3:8] = False
    meter.add(logits, masks)
    found = meter.result()
    assert set(found["entropy"]) == {"arm", "fixed"}
    assert "masks allow no action of heads leg at 2 steps" in caplog.text


def test_wide_heads_are_added_up_at_once():
    logits = 4 * torch.randn(60, 5_000, generator=torch.Generator().manual_seed(0))
    meter = HeadMeter({"token": 5_000})
    for part in logits.split(20):
        meter.add(part)
    found = meter.result()
    probabilities = logits.double().softmax(1).numpy()
    # Single precision over 5,000 actions.
    assert found["entropy"]["token"] == pytest.approx(scipy_entropy(probabilities, axis=1).mean(), rel=1e-6)
    assert "action_shares" not in found
    # 60 steps say little of 5,000 weights, but a head that looks at the state in few steps does look.
    assert found["state_information"]["token"] == pytest.approx(by_scipy(probabilities), rel=1e-4)
    logits[0, :10] = -torch.inf
    masked = measured(logits, sizes={"token": 5_000})
    assert "state_information" not in masked
    assert masked["choice_share"]["token"] == 1.0


def test_the_documented_lines():
    with rl_exporter.serve(SIZES, listen="127.0.0.1:0", linger=0) as heads:
        meter = HeadMeter(heads)
        logits, masks = logits_and_masks()
        meter.add(logits, masks)
        heads.record(**meter.result(), episode_return=1.0)
        reading = heads.snapshot().tamiyo.readings["leg"]
        assert reading.entropy == measured(logits, masks)["entropy"]["leg"]
        assert reading.state_information is not None
        assert heads.snapshot().record_errors == 0
