"""The last parts of a teacher, loaded alone, are those of the whole model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.importing.teacher import describe_imported, load_last_parts
from schemas.configs.extraction import TeacherConfig
from schemas.errors import ModelError
from tests.pipeline.teacher.tiny_models import CAUSAL, VOCAB


def gemma3() -> Any:
    import transformers as tf

    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(**sizes, intermediate_size=48, num_key_value_heads=1, head_dim=8))


MODELS: dict[str, Callable[[], Any]] = {name: CAUSAL[name] for name in ("llama", "gpt2", "phi")} | {"gemma3": gemma3}


@pytest.mark.parametrize("name", MODELS)
def test_norm_and_unembedding_give_the_models_own_logits(tmp_path: Path, name: str) -> None:
    """Tied and not, with a bias, LayerNorm and RMSNorm; gemma3's norm adds 1 to its weight."""
    torch.manual_seed(0)
    model: Any = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    config = TeacherConfig(model=str(tmp_path), max_tokens=16)
    record, parts = describe_imported(config, tmp_path, with_states=True), load_last_parts(config, tmp_path)
    body, before = model.base_model, list[torch.Tensor]()
    norms = [module for module in body.children() if "norm" in type(module).__name__.lower()]
    norms[-1].register_forward_pre_hook(lambda module, arguments: before.append(arguments[0]))
    ids = torch.arange(3, 9)[None]
    with torch.inference_mode():
        output = model(input_ids=ids, output_hidden_states=True)
    normed = parts.normed(before[0][0])
    torch.testing.assert_close(normed, output.hidden_states[-1][0], atol=1e-5, rtol=1e-5)
    logits = torch.nn.functional.linear(normed, parts.weight_Vd, parts.bias_V)
    torch.testing.assert_close(logits, output.logits[0], atol=1e-4, rtol=1e-4)
    assert record.head is not None and record.vocab_size == len(parts.weight_Vd)


def test_without_weights_there_is_no_head(tmp_path: Path) -> None:
    model: Any = CAUSAL["llama"]()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    config = TeacherConfig(model=str(tmp_path), max_tokens=16)
    record = describe_imported(config, tmp_path, with_states=False)
    assert record.head is None and (record.num_layers, record.hidden_size, record.vocab_size) == (3, 32, VOCAB)
    with pytest.raises(ModelError, match="holds no weights"):
        describe_imported(config, tmp_path, with_states=True)
