"""A student cut from a model's layers is that model without the others, in every family, or it is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as tf
from pydantic import ValidationError

from schemas.configs.training import StudentConfig
from schemas.errors import ModelError
from schemas.models.token_mass import find_blocks
from tests.tiny import tiny_llama, tiny_tokenizer
from trainer.student.cut import cut_layers
from trainer.student.load import load_saved, load_student

SIZE = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2}
WIDE = SIZE | {"intermediate_size": 24, "num_key_value_heads": 2, "initializer_range": 0.5}
OPT = {"vocab_size": 31, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 5, "num_attention_heads": 2}
KINDS = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"]
GEMMA = WIDE | {"head_dim": 8, "sliding_window": 4, "layer_types": KINDS}
GPT2 = {"vocab_size": 31, "n_embd": 16, "n_layer": 5, "n_head": 2}
MODELS: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**WIDE)),
    "qwen2, tied": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**WIDE, tie_word_embeddings=True)),
    "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**WIDE, head_dim=8)),
    "gemma3": lambda: tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(**GEMMA)),
    "smollm3": lambda: tf.SmolLM3ForCausalLM(tf.SmolLM3Config(**WIDE, no_rope_layers=[1, 0, 1, 1, 0], pad_token_id=1)),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**GPT2)),
    "gpt_neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**SIZE, intermediate_size=24)),
    "opt": lambda: tf.OPTForCausalLM(tf.OPTConfig(**OPT, pad_token_id=1)),
    "bert": lambda: tf.BertModel(tf.BertConfig(**SIZE, intermediate_size=24)),
}
KEEP = [0, 1, 3]
TOKENS = torch.arange(24).view(2, 12)


def states(model: tf.PreTrainedModel) -> tuple[torch.Tensor, ...]:
    """Of the embeddings and after each layer."""
    with torch.no_grad():
        found: tuple[torch.Tensor, ...] = model.eval()(TOKENS, output_hidden_states=True).hidden_states
    return found


@pytest.mark.parametrize("name", MODELS)
def test_what_is_kept_is_the_models_own(name: str) -> None:
    torch.manual_seed(0)
    whole = MODELS[name]()
    cut = cut_layers(whole, KEEP)
    assert type(cut) is type(whole) and cut.config.num_hidden_layers == 3 and len(find_blocks(cut)) == 3
    for place, layer in enumerate(KEEP):
        kept, own = find_blocks(cut)[place].state_dict(), find_blocks(whole)[layer].state_dict()
        assert kept.keys() == own.keys() and all(torch.equal(kept[key], own[key]) for key in own)
    inside = [id(parameter) for parameter in find_blocks(cut).parameters()]
    outside = {key: value for key, value in cut.named_parameters() if id(value) not in inside}
    assert outside and all(torch.equal(value, whole.get_parameter(key)) for key, value in outside.items())
    # Windows of Gemma 3 are shorter than these texts: the first layers agree only with their own kinds of attention.
    for found, right in zip(states(cut)[:3], states(whole)[:3], strict=True):
        torch.testing.assert_close(found, right)


def test_kinds_of_layers_go_with_them() -> None:
    torch.manual_seed(0)
    cut = cut_layers(MODELS["gemma3"](), [1, 2, 4])
    assert cut.config.layer_types == ["full_attention", "sliding_attention", "full_attention"]


def test_a_layer_that_counts_its_place_is_refused() -> None:
    """GPT-2 of Stanford's Mistral divides scores by the layer's number."""
    torch.manual_seed(0)
    model = tf.GPT2LMHeadModel(tf.GPT2Config(**GPT2, scale_attn_by_inverse_layer_idx=True, initializer_range=0.5))
    cut_layers(model, [0, 1])
    with pytest.raises(ModelError, match=r"^layer 3 of GPT2LMHeadModel computes something else as layer 1 of the cut"):
        cut_layers(model, [0, 3])


def test_a_student_of_a_folder(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path)
    whole = tiny_llama(tmp_path, tokenizer)
    config = StudentConfig(model=str(tmp_path), keep_layers=[0, 2], max_tokens=16)
    student = load_student(config, tokenizer)
    assert student.training and torch.equal(
        student.model.layers[1].mlp.up_proj.weight, whole.model.layers[2].mlp.up_proj.weight
    )
    student.save_pretrained(tmp_path / "saved")
    for found, right in zip(states(load_saved(tmp_path / "saved")), states(student), strict=True):
        assert torch.equal(found, right)
    beyond = config.model_copy(update={"keep_layers": [0, 3]})
    with pytest.raises(ModelError, match=r"^student\.keep_layers: there is no layer 3; the model has layers 0 to 2$"):
        load_student(beyond, tokenizer)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "m", "keep_layers": [0, 2, 1]}, r"keep_layers must rise, each layer once: \[0, 1, 2\]"),
        ({"model": "m", "keep_layers": [0, 0]}, r"keep_layers must rise, each layer once: \[0\]"),
        ({"model": "m", "keep_layers": [-1]}, "greater than or equal to 0"),
        ({"model": "m", "keep_layers": []}, "at least 1 item"),
        ({"architecture": {}, "tokenizer": "teacher", "keep_layers": [0]}, "`keep_layers` goes with `model`"),
    ],
)
def test_no_such_choice(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        StudentConfig.model_validate(settings)
