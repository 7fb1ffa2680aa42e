"""GRPO of TRL with the entropy of its tokens on /metrics. The language model is tiny and made here.

    python examples/trl_grpo.py --total-timesteps 20000
    curl http://127.0.0.1:28008/metrics | grep rl_policy_head

Needs, in a clone: pip install . trl
"""

import argparse
import tempfile

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from rl_exporter.integrations.trl import HeadEntropyCallback

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--total-timesteps", type=int, default=20_000, help="tokens to generate, about")
parser.add_argument("--listen", default="127.0.0.1:28008", help="HOST:PORT of /metrics; port 0: a free one")
parser.add_argument("--run-id", help="name of the run; generated when left out")
arguments = parser.parse_args()

words = {"<pad>": 0} | {str(number): 1 + number for number in range(49)}
vocabulary = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="<pad>", eos_token="0")
size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
model = LlamaForCausalLM(LlamaConfig(vocab_size=50, pad_token_id=0, bos_token_id=1, eos_token_id=1, **size))

steps = {"max_steps": max(1, arguments.total_timesteps // 128), "logging_steps": 1, "save_strategy": "no"}
batch = {"per_device_train_batch_size": 16, "num_generations": 8, "max_completion_length": 8}
prompts = Dataset.from_list([{"prompt": f"{number} {number + 1}"} for number in range(40)])
rewards = lambda completions, **_: [sum(map(int, text.split())) / 384 for text in completions]  # noqa: E731
callback = HeadEntropyCallback(arguments.run_id, listen=arguments.listen, verbose=1)
with tempfile.TemporaryDirectory() as folder, callback:
    config = GRPOConfig(folder, learning_rate=3e-3, report_to=[], use_cpu=True, bf16=False, **steps, **batch)
    GRPOTrainer(model, rewards, config, prompts, processing_class=tokenizer, callbacks=[callback]).train()
print(f"token {callback.recorder.snapshot().tamiyo.readings['token'].entropy:.3f} nats")
