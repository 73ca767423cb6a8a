"""Logits row by row are the model's own, in every family; a model that makes them otherwise is left to do so."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf

from trainer.objectives.kernels.logit_pass import LogitPass
from trainer.student.final_states import has_plain_head, logits_over

SIZE = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = SIZE | {"intermediate_size": 24, "num_key_value_heads": 2, "initializer_range": 0.5}
OPT = {"vocab_size": 31, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
STUDENTS: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**WIDE)),
    "tied": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**WIDE, tie_word_embeddings=True)),
    "granite": lambda: tf.GraniteForCausalLM(tf.GraniteConfig(**WIDE, logits_scaling=8.0)),
    "cohere": lambda: tf.CohereForCausalLM(tf.CohereConfig(**WIDE, logit_scale=0.25)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**WIDE, head_dim=8, final_logit_softcapping=1.5)),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=31, n_embd=16, n_layer=2, n_head=2)),
    "gpt_neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**SIZE, intermediate_size=24)),
    "opt, narrow embeddings": lambda: tf.OPTForCausalLM(tf.OPTConfig(**OPT, word_embed_proj_dim=8, pad_token_id=1)),
    "phi, a head with a bias": lambda: tf.PhiForCausalLM(tf.PhiConfig(**SIZE, intermediate_size=24)),
}
TOKENS = torch.arange(24).view(2, 12)


@pytest.mark.parametrize("name", STUDENTS)
def test_rows_are_the_models_own(name: str) -> None:
    torch.manual_seed(0)
    model = STUDENTS[name]().eval()
    with torch.no_grad():
        logits, right = logits_over(model, TOKENS), model(input_ids=TOKENS).logits
    assert has_plain_head(model) and logits.weight_Vd is not None and logits.shape == right.shape
    torch.testing.assert_close(logits.whole(), right)
    positions = torch.tensor([3, 20, 7])
    torch.testing.assert_close(LogitPass(logits).rows(positions), right.flatten(0, 1)[positions])


class Doubled(tf.LlamaForCausalLM):  # type: ignore[misc]
    """Does to its logits what its config does not say."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Twice the usual."""
        output = super().forward(*args, **kwargs)
        output.logits = 2 * output.logits
        return output


def test_what_makes_them_otherwise_makes_them_whole_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model = Doubled(tf.LlamaConfig(**WIDE)).train()
    with torch.no_grad():
        found = [logits_over(model, TOKENS) for _ in range(2)]
        right = model(input_ids=TOKENS).logits
    assert model.training and all(logits.weight_Vd is None for logits in found)
    torch.testing.assert_close(found[0].whole(), right)
    (said,) = caplog.messages
    assert "the logits of Doubled are not its head times its final states" in said and "made as a whole" in said
