"""Every number of a real run's last update, recomputed from its recorded logits by NumPy alone."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module", params=["table", "all"])
def run(request, tmp_path_factory):
    """The recording of a short run, and the log of the update it is of."""
    folder = tmp_path_factory.mktemp("run")
    recording, log = folder / "rollout.npz", folder / "log.jsonl"
    command = [
        *(sys.executable, "-m", "rl_training", "--env", "heads", "--env-arg", f"consult={request.param}"),
        *("--updates", "6", "--learning-rate", "3e-3", "--listen", "127.0.0.1:0", "--linger", "0", "--quiet"),
        *("--record-rollouts", recording, "--log-json", log),
    ]
    subprocess.run(command, check=True, timeout=300)
    with np.load(recording) as archive:
        arrays = dict(archive)
    return arrays, json.loads(log.read_text().splitlines()[int(arrays["update"]) - 1])


def segments(arrays):
    ends = np.cumsum(arrays["sizes"])
    return {
        str(name): slice(end - size, end)
        for name, size, end in zip(arrays["names"], arrays["sizes"], ends, strict=True)
    }


def entropy(logits, mask):
    """Nats of a softmax over what the mask allows; (E, T, N, n) and (T, N, n)."""
    shifted = np.where(mask, logits.astype(np.float64), -np.inf)
    shifted -= shifted.max(-1, keepdims=True)
    weights = np.exp(shifted)
    shares = weights / weights.sum(-1, keepdims=True)
    return -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(-1)


def recomputed(arrays):
    masks, operations, real = arrays["masks"], arrays["operations"], ~arrays["padding"]
    kinds = masks.shape[2]
    consulted = arrays["consulted"] if kinds > 1 else np.ones((1, len(arrays["sizes"])), dtype=bool)
    rows = np.take_along_axis(masks, (operations if kinds > 1 else operations * 0)[..., None, None], 2)[:, :, 0]
    valid_operations = masks[:, :, 0, :kinds] if kinds > 1 else np.ones((*operations.shape, 1), dtype=bool)
    numbers = {}
    for head, (name, segment) in enumerate(segments(arrays).items()):
        reaching = valid_operations & consulted[:, head]
        step = (masks[..., segment] & reaching[..., None]).any(2)
        step[..., 0] |= ~reaching.any(-1)
        decision, counts = rows[..., segment], masks[..., segment].sum(-1)
        valid = decision.sum(-1)
        used = consulted[operations, head] if kinds > 1 else np.ones(operations.shape, dtype=bool)
        choice = used & (valid > 1) & real
        opened = (reaching & (counts > 1)).any(-1) & real
        nats = [h[real].mean() for h in entropy(arrays["logits"][..., segment], step)]
        ratios = [
            (h[choice] / np.log(valid[choice])).mean()
            for h in entropy(arrays["logits"][..., segment], decision)
        ]
        numbers[name] = {
            "rl_policy_head_entropy_nats": np.mean(nats),
            "rl_policy_head_entropy_normalized_ratio": np.mean(nats) / np.log(arrays["sizes"][head]),
            "rl_policy_head_choice_entropy_ratio": np.mean(ratios),
            "rl_policy_head_choice_steps_ratio": choice.sum() / real.sum(),
            "rl_policy_head_open_steps_ratio": opened.sum() / real.sum(),
        }
    return numbers


def test_every_number_of_the_update_follows_from_the_recorded_logits(run):
    arrays, logged = run
    numbers = recomputed(arrays)
    for head, values in numbers.items():
        for metric, value in values.items():
            assert logged[metric][head] == pytest.approx(value, abs=1e-6), (metric, head)
    total = sum(values["rl_policy_head_entropy_nats"] for values in numbers.values())
    assert logged["rl_policy_entropy_nats"] == pytest.approx(total, abs=1e-5)


def test_effective_ratio_level_and_streaks_follow_too(run):
    arrays, logged = run
    for head, values in recomputed(arrays).items():
        ratio = values["rl_policy_head_choice_entropy_ratio"]
        for threshold in ("0.25", "0.5"):
            low = logged["rl_policy_head_low_entropy_streak_updates"][head][threshold] > 0
            assert low == (ratio <= float(threshold))
        state = max(logged["rl_policy_head_state"][head], key=logged["rl_policy_head_state"][head].get)
        gradient = logged["rl_policy_head_gradient_norm"][head]
        if 0.1 <= ratio <= 0.9 and gradient <= 5:
            assert state == ("healthy" if ratio > 0.5 and gradient >= 0.01 else "unsettled")


def test_the_recording_is_of_a_policy_that_learned_something(run):
    arrays, _ = run
    assert arrays["update"] == 6
    assert len(arrays["logits"]) >= 1
    assert np.ptp(arrays["logits"]) > 0.1
    if arrays["masks"].shape[2] > 1:
        assert not np.array_equal(arrays["masks"][:, :, 0], arrays["masks"][:, :, 1])
