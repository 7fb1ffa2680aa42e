"""PPO of skrl with three heads: python examples/skrl_multicategorical.py --total-timesteps 50000"""

from gymnasium.vector import AutoresetMode, SyncVectorEnv
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.trainers.torch import SequentialTrainer
from skrl.utils.model_instantiators.torch import deterministic_model, multicategorical_model

from picking import Picking, command_line
from rl_exporter import serve
from rl_exporter.integrations.skrl import action_heads, measure

options = command_line(__doc__)
env = wrap_env(SyncVectorEnv([Picking] * 8, autoreset_mode=AutoresetMode.SAME_STEP), verbose=False)
spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
layers = [{"name": "net", "input": "OBSERVATIONS", "layers": [64], "activations": "tanh"}]
agent = PPO(
    models={
        "policy": multicategorical_model(**spaces, network=layers, output="ACTIONS"),
        "value": deterministic_model(**spaces, network=layers, output="ONE"),
    },
    memory=RandomMemory(memory_size=128, num_envs=env.num_envs),
    cfg={"rollouts": 128, "learning_epochs": 4, "mini_batches": 4, "learning_rate": 2.5e-3},
    **spaces,
)
steps = {"timesteps": options.total_timesteps // env.num_envs, "headless": True, "disable_progressbar": True}
trainer = SequentialTrainer(cfg=steps, env=env, agents=agent)
heads = action_heads(env)  # {"gripper": 4, "arm": 9, "speed": 3}
with serve(heads, listen=options.listen, run_id=options.run_id) as recorder, measure(agent, recorder):
    print(f"{recorder.url}/metrics", flush=True)
    trainer.train()
