"""An agent that hands copies of the memory's tensors to its policy: only where it samples anew tells its epochs."""

import torch

from rl_exporter.integrations.meter.head_meter import HeadMeter
from rl_exporter.integrations.minibatches import EpochBuffer, Minibatch
from rl_exporter.integrations.skrl.epochs import SampledMinibatches


def test_an_epoch_ends_where_the_memory_samples_anew():
    buffer = EpochBuffer(HeadMeter({"arm": 3}))
    minibatches = SampledMinibatches(buffer)
    frames = []
    for _ in range(2):
        minibatches.sampled(["actions"], [[torch.zeros(4, 1)], [torch.ones(4, 1)], [torch.ones(4, 1)]])
        for _ in range(2):
            assert minibatches.of(torch.zeros(4, 1)) == {}
            minibatches.add(Minibatch(logits=torch.zeros(4, 3)), 4)
            frames.append(buffer.frames)
    assert frames == [4, 8, 4, 8]


def test_other_tensors_of_the_memory_are_no_minibatches():
    minibatches = SampledMinibatches(EpochBuffer(HeadMeter({"arm": 3})))
    actions = torch.zeros(4, 1)
    minibatches.sampled(["actions"], [[actions]])
    minibatches.sampled(["rnn"], [[torch.zeros(4, 1)]])
    assert minibatches.of(actions) == {"actions": actions}
