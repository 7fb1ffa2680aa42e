"""Short training of a small language model, and a callback whose run nobody waits for."""

from tests.support import tiny_language
from tests.support.tiny_language import even_words


def local(**options):
    from rl_exporter.integrations.trl import HeadEntropyCallback

    return HeadEntropyCallback(**({"run_id": "test", "listen": "127.0.0.1:0", "linger": 0} | options))


def learn(model, *callbacks, rewards=(even_words,), **options):
    trainer = tiny_language.trainer(model, callbacks, rewards=rewards, **({"max_steps": 2} | options))
    trainer.train()
    return trainer
