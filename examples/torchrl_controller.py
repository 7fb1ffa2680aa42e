"""TorchRL with an entropy coefficient for each head, which a controller moves between updates.

python examples/torchrl_controller.py --total-timesteps 50000
"""

from tensordict import nn as td
from torch import nn, optim, randperm
from torch.distributions import Categorical
from torchrl.envs import GymWrapper, RewardSum, TransformedEnv
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from picking import NamedPicking, command_line
from rl_exporter import serve
from rl_exporter.integrations.torchrl import (
    HeadEntropyHook,
    action_heads,
    entropy_coefficients,
    set_entropy_coefficients,
)
from rl_exporter.intervention import EntropyController

BASE = 0.01
options = command_line(__doc__)
td.set_composite_lp_aggregate(False).set()  # the actor stores the log-probability of each head
env = TransformedEnv(GymWrapper(NamedPicking(), categorical_action_encoding=True), RewardSum())
sizes = action_heads(env)  # {"arm": 9, "gripper": 4, "speed": 3}
layer = nn.Linear(64, sum(sizes.values()))
network = td.TensorDictModule(nn.Sequential(nn.Linear(13, 64), nn.Tanh(), layer), ["observation"], ["row"])
keys = [("params", name, "logits") for name in sizes]
split = td.TensorDictModule(lambda row: row.split([*sizes.values()], -1), ["row"], keys)
kinds = {"distribution_map": dict.fromkeys(sizes, Categorical)}
policy = {"distribution_class": td.CompositeDistribution, "distribution_kwargs": kinds, "return_log_prob": True}
actor = ProbabilisticActor(td.TensorDictSequential(network, split), ["params"], spec=env.action_spec, **policy)
critic = ValueOperator(nn.Sequential(nn.Linear(13, 64), nn.Tanh(), nn.Linear(64, 1)), ["observation"])
coefficients = entropy_coefficients(dict.fromkeys(sizes, BASE))
loss = ClipPPOLoss(actor, critic, entropy_coeff=coefficients)
advantages = GAE(gamma=0.99, lmbda=0.95, value_network=critic)
optimizer = optim.Adam(loss.parameters(), 2.5e-3)
with serve(sizes, listen=options.listen, run_id=options.run_id) as recorder:
    print(f"{recorder.url}/metrics", flush=True)
    hook = HeadEntropyHook(loss, recorder, frames_per_batch=1024)
    controller = EntropyController(recorder.heads, {"gripper": 0.4, "arm": 0.4})
    for _ in range(options.total_timesteps // 1024):
        batch = advantages(env.rollout(1024, actor, break_when_any_done=False).detach())
        for indices in (part for _ in range(4) for part in randperm(1024).split(256)):
            optimizer.zero_grad()
            sum(value for key, value in loss(batch[indices]).items() if key.startswith("loss_")).backward()
            hook.gradients(layer)
            optimizer.step()
        hook.record(batch, entropy_coefficient=BASE, **controller.numbers(BASE))
        set_entropy_coefficients(loss, controller.coefficients(recorder.snapshot(), BASE))
