"""Adapters are PEFT's own: what is saved, opened and merged is what PEFT makes of it, in several families."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from schemas.configs.training import StudentConfig
from schemas.errors import ModelError, RunError
from schemas.models.sentence_layout import SentenceLayout
from trainer.student.adapter import WEIGHTS, add_adapter, has_adapter, load_adapter, merge_adapter, save_adapter
from trainer.student.sentence_encoder import SentenceEncoder

peft = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # read by peft
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning"),  # which peft then sets by itself
]

SIZE = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
GPT2 = {"vocab_size": 31, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
OF_LLAMA = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
MODELS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "llama": (lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SIZE, tie_word_embeddings=True)), OF_LLAMA),
    "gpt2": (lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**GPT2)), ["c_attn", "c_fc", "c_proj"]),
    "gpt_neox": (
        lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**SIZE)),
        ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"],
    ),
}
TOKENS = torch.arange(24).view(2, 12)


def settings(kind: str = "lora", **changes: Any) -> StudentConfig:
    adapter = {"kind": kind, "rank": 3, "alpha": 6, "dropout": 0.2, **changes}
    return StudentConfig.model_validate({"model": "base", "adapter": adapter})


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(TOKENS).logits
    return found


def move(model: Any) -> None:
    """As training would: every parameter that learns."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.2 * torch.randn(weight.shape, generator=generator))


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("name", MODELS)
def test_an_adapter_opens_in_peft_goes_on_and_merges(tmp_path: Path, name: str, kind: str) -> None:
    make, targets = MODELS[name]
    torch.manual_seed(0)
    base = make()
    base.save_pretrained(tmp_path / "base")
    before = logits(base)
    add_adapter(base, settings(kind))
    assert has_adapter(base) and torch.allclose(logits(base), before, atol=1e-6)
    assert all("lora_" in name for name, weight in base.named_parameters() if weight.requires_grad)
    move(base)
    moved = logits(base)
    assert (moved - before).abs().max() > 1e-3
    save_adapter(base, tmp_path / "adapter")

    opened = peft.PeftModel.from_pretrained(type(base).from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    assert torch.allclose(logits(opened), moved, atol=1e-6)
    assert sorted(opened.peft_config["default"].target_modules) == targets

    again = type(base).from_pretrained(tmp_path / "base")
    add_adapter(again, settings(kind))
    load_adapter(again, tmp_path / "adapter")
    assert torch.equal(logits(again), moved)

    merge_adapter(base)
    assert not has_adapter(base) and torch.allclose(logits(base), moved, atol=1e-5)
    base.save_pretrained(tmp_path / "merged")
    assert torch.equal(logits(type(base).from_pretrained(tmp_path / "merged")), logits(base))
    assert base.state_dict().keys() == make().state_dict().keys()


def test_the_same_adapter_is_the_same_bytes_and_names_its_base(tmp_path: Path) -> None:
    for name in ("first", "second"):
        torch.manual_seed(0)
        model = MODELS["llama"][0]()
        add_adapter(model, settings(targets=["v_proj", "q_proj"]))
        save_adapter(model, tmp_path / name)
    for file in ("adapter_config.json", WEIGHTS):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    said = peft.PeftConfig.from_pretrained(tmp_path / "first")
    assert said.base_model_name_or_path == "base" and said.target_modules == {"q_proj", "v_proj"}


def test_an_encoder_is_adapted_below_its_pooling(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = SentenceEncoder(tf.BertModel(tf.BertConfig(**SIZE)), SentenceLayout("mean", True, 16)).eval()
    config = StudentConfig.model_validate({"kind": "encoder", "model": "base", "adapter": {"rank": 2}})
    add_adapter(student, config)
    move(student)
    mask_BS = torch.ones_like(TOKENS, dtype=torch.bool)
    with torch.no_grad():
        adapted = student(TOKENS, mask_BS)
        save_adapter(student, tmp_path)
        merge_adapter(student)
        assert torch.allclose(student(TOKENS, mask_BS), adapted, atol=1e-5)
    assert {"base_model.model.encoder.layer.0.attention.self.query.lora_A.weight"} < peft.utils.load_peft_weights(
        str(tmp_path), device="cpu"
    ).keys()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_proj", "c_attn"], "LlamaForCausalLM has no linear layer c_attn; it has down_proj, gate_proj, k_proj"),
        (["lm_head"], "lm_head is the head, which losses read"),
        (["embed_tokens"], "has no linear layer embed_tokens"),
    ],
)
def test_targets_that_cannot_be_adapted_are_refused(targets: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        add_adapter(MODELS["llama"][0](), settings(targets=targets))


def test_another_adapter_is_not_gone_on_from(tmp_path: Path) -> None:
    model = MODELS["llama"][0]()
    add_adapter(model, settings())
    save_adapter(model, tmp_path)
    wider, fewer = MODELS["llama"][0](), MODELS["llama"][0]()
    add_adapter(wider, settings(rank=4))
    with pytest.raises(RunError, match=r"has the shape \(3, 16\) instead of \(4, 16\)"):
        load_adapter(wider, tmp_path)
    add_adapter(fewer, settings(targets=["q_proj"]))
    with pytest.raises(RunError, match="is on one side alone"):
        load_adapter(fewer, tmp_path)
