"""Random models of many architectures, made-up samples, and their states as a teacher gives them."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from pipeline.corpus.sample import AnnotatedSample, Spans
from pipeline.teacher.batching import BatchRule
from pipeline.teacher.run import Teacher
from schemas.cache.targets import NO_TARGETS
from schemas.cache.token_rows import every_row
from schemas.configs.extraction import TeacherConfig
from schemas.configs.states import StatesConfig
from tests.teachers import make_teacher

NONE = np.empty((0, 2), np.int32)


VOCAB = 61


TINY = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}


SMALL = {**TINY, "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.3}


FLOAT32 = StatesConfig(hidden=[0, 1, "last"], mass=[1, "last"], dtype="float32")


def sample(name: str, ids: Sequence[int]) -> AnnotatedSample:
    spans = Spans(NONE, NONE, NONE)
    offsets = np.zeros((len(ids), 2), np.int32)
    return AnnotatedSample(name, "", NO_TARGETS, False, np.array(ids, np.int32), offsets, every_row(len(ids)), spans)


def random_samples(vocab: int = VOCAB, lengths: Sequence[int] = (5, 17, 1, 9, 0, 17, 2, 30)) -> list[AnnotatedSample]:
    torch.manual_seed(3)
    return [sample(f"s{i}", torch.randint(3, vocab, (n,)).tolist()) for i, n in enumerate(lengths)]


def load(
    folder: Path, states: StatesConfig = FLOAT32, adapter: Path | None = None, kind: str = "causal", **config: object
) -> Teacher:
    settings = TeacherConfig.model_validate({"model": str(folder), "kind": kind, "max_tokens": 32, **config})
    return make_teacher(settings, states, folder, adapter)


def run(teacher: Teacher, samples: Sequence[AnnotatedSample], batch_tokens: int = 64) -> dict[str, np.ndarray]:
    return teacher.run(samples, BatchRule(batch_tokens), lambda samples, tokens: None)


CAUSAL = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SMALL, num_key_value_heads=2)),
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=4)),
    "gpt2": lambda: tf.GPT2LMHeadModel(
        tf.GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=64, initializer_range=0.3)
    ),
    "opt": lambda: tf.OPTForCausalLM(
        tf.OPTConfig(**TINY, ffn_dim=48, max_position_embeddings=64, word_embed_proj_dim=32, init_std=0.3)
    ),
    "gpt_neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**SMALL)),
    "phi": lambda: tf.PhiForCausalLM(tf.PhiConfig(**SMALL)),  # its head has a bias
    "gemma2": lambda: tf.Gemma2ForCausalLM(
        tf.Gemma2Config(
            **SMALL, num_key_value_heads=2, head_dim=8, sliding_window=4, attn_logit_softcapping=2.0,
            final_logit_softcapping=1.5,
        )
    ),
    "llama4": lambda: tf.Llama4ForCausalLM(
        tf.Llama4TextConfig(
            **SMALL, intermediate_size_mlp=48, num_key_value_heads=2, head_dim=8, num_local_experts=2,
            pad_token_id=None,
        )
    ),
    "cohere": lambda: tf.CohereForCausalLM(tf.CohereConfig(**SMALL, logit_scale=0.25)),
    "granite": lambda: tf.GraniteForCausalLM(tf.GraniteConfig(**SMALL, logits_scaling=8.0)),
}  # fmt: skip

# Mixtures of experts; the first layer of the last is dense.
MIXED = {
    "mixtral": lambda layers=3, **sizes: tf.MixtralForCausalLM(
        tf.MixtralConfig(**_mixed(layers, sizes), num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2)
    ),
    "qwen3_moe": lambda layers=3, **sizes: tf.Qwen3MoeForCausalLM(
        tf.Qwen3MoeConfig(
            **_mixed(layers, sizes), num_key_value_heads=2, head_dim=8, moe_intermediate_size=24, num_experts=16,
            num_experts_per_tok=4,
        )
    ),
    "olmoe": lambda layers=3, **sizes: tf.OlmoeForCausalLM(
        tf.OlmoeConfig(**_mixed(layers, sizes), num_key_value_heads=2, num_experts=16, num_experts_per_tok=4)
    ),
    "granitemoe": lambda layers=3, **sizes: tf.GraniteMoeForCausalLM(
        tf.GraniteMoeConfig(**_mixed(layers, sizes), num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2)
    ),
    "gpt_oss": lambda layers=3, **sizes: tf.GptOssForCausalLM(
        tf.GptOssConfig(
            **_mixed(layers, sizes), num_key_value_heads=2, head_dim=8, num_local_experts=8, num_experts_per_tok=2,
            sliding_window=8,
        )
    ),
    "deepseek_v3": lambda layers=3, **sizes: tf.DeepseekV3ForCausalLM(
        tf.DeepseekV3Config(
            **_mixed(layers, sizes), num_key_value_heads=4, moe_intermediate_size=24, n_routed_experts=16,
            num_experts_per_tok=4, n_group=4, topk_group=2, first_k_dense_replace=1, kv_lora_rank=16, q_lora_rank=16,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8, v_head_dim=8,
        )
    ),
}  # fmt: skip


def _mixed(layers: int, sizes: dict[str, int]) -> dict[str, object]:
    return {**SMALL, **sizes, "num_hidden_layers": layers, "initializer_range": 0.12 if layers > 3 else 0.3}


def edit_weights(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    folder = Path(shutil.copytree(source, target / "model"))
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def memory_for_half(folder: Path, share: float = 0.8) -> dict[str, Any]:
    """A placement for which about half of the model's float32 is kept in memory, beside the room for one layer."""
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return {"placement": "spread", "max_memory": {"cpu": f"{int(held * share) / 1000:.3f}KB"}}


def edit_config(source: Path, target: Path, **changes: object) -> Path:
    folder = Path(shutil.copytree(source, target))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder
