"""A student's own logits are what its config says, or it is refused; and the check leaves it as it was."""

from collections.abc import Callable

import pytest
import torch
import transformers as tf

from schemas.errors import ModelError
from schemas.models.logits import LogitTransform
from trainer.student.head_check import check_logits

SMALL = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.5,
}
STUDENTS: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SMALL)),
    "granite": lambda: tf.GraniteForCausalLM(tf.GraniteConfig(**SMALL, logits_scaling=8.0)),
    "cohere": lambda: tf.CohereForCausalLM(tf.CohereConfig(**SMALL, logit_scale=0.25)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=1.5)),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_a_students_own_logits_are_what_its_config_says(name: str) -> None:
    torch.manual_seed(0)
    model = STUDENTS[name]().train()
    model.model.eval()
    transform = LogitTransform.of(model.config)
    assert (transform == LogitTransform()) == (name == "llama")
    check_logits(model, transform)
    assert model.training and not model.model.training
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ModelError, match=r"the logits of \w+ are not its head times its final states"):
        check_logits(model, LogitTransform(1.7, None))
