"""A language model of 50 words, made here, and trainers of TRL for it. Nothing is downloaded."""

import os
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import of huggingface_hub reads it

VOCABULARY = 50
PROMPTS = 16
MODEL = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1,
    "initializer_range": 0.5,
}  # fmt: skip


def write_model(folder):
    """Save the model and its tokenizer, as a path that trainers load from. Returns the path."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<unk>"] + [f"w{i}" for i in range(VOCABULARY - 3)]
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **MODEL)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def even_words(completions, **_):
    """A reward: how many words of a completion have an even number."""
    return [
        float(sum(word[1:].isdigit() and int(word[1:]) % 2 == 0 for word in text.split()))
        for text in completions
    ]


def short(completions, **_):
    """Another one: less for each word."""
    return [1.0 - len(text.split()) / 8 for text in completions]


def trainer(model, callbacks, kind="GRPO", rewards=(even_words, short), **options):
    """A GRPOTrainer or RLOOTrainer on the CPU that logs every step."""
    import trl
    from datasets import Dataset

    defaults = {
        "output_dir": f"{model}-out", "per_device_train_batch_size": 4, "num_generations": 4,
        "max_completion_length": 8, "max_steps": 4, "logging_steps": 1, "save_strategy": "no", "report_to": [],
        "use_cpu": True, "bf16": False, "learning_rate": 5e-3, "seed": 3, "disable_tqdm": True,
        "model_init_kwargs": {"dtype": "float32"},
    }  # fmt: skip
    with warnings.catch_warnings():
        # TRL 1.16 uses options that transformers 5.24 calls deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        config = getattr(trl, f"{kind}Config")(**(defaults | options))
        prompts = Dataset.from_list([{"prompt": f"w{i} w{i + 1}"} for i in range(PROMPTS)])
        return getattr(trl, f"{kind}Trainer")(
            model=model,
            reward_funcs=list(rewards),
            args=config,
            train_dataset=prompts,
            eval_dataset=prompts,
            callbacks=list(callbacks),
        )


def supervised(model, callbacks):
    """A Trainer of transformers for the same model, which logs no entropy. It imports no TRL."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    words = torch.arange(3, 9)
    options = TrainingArguments(
        f"{model}-out", max_steps=2, logging_steps=1, report_to=[], save_strategy="no", use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    network = AutoModelForCausalLM.from_pretrained(model)
    return Trainer(
        network, options, train_dataset=[{"input_ids": words, "labels": words}] * 4, callbacks=list(callbacks)
    )
