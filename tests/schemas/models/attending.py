"""Tiny random models of many architectures, each with attention that can be read and with eager attention; and a batch
for them."""

import copy
from collections.abc import Callable

import torch
import transformers as tf
from torch import Tensor

from schemas.models.token_mass import Mode, enable_token_mass

VOCAB, WIDTH, LAYERS = 61, 32, 3
LENGTHS = (11, 7, 2, 11)
COMMON = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
PLAIN = {**COMMON, "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.3}
SLIDING_FIRST = ["sliding_attention", "full_attention", "sliding_attention"]

CAUSAL: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**PLAIN, num_key_value_heads=2)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**PLAIN, num_key_value_heads=1)),
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(**PLAIN, num_key_value_heads=2, sliding_window=4)),
    "gpt2": lambda: tf.GPT2LMHeadModel(
        tf.GPT2Config(
            vocab_size=VOCAB, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=64, initializer_range=0.4,
            scale_attn_by_inverse_layer_idx=True, attn_pdrop=0.5, resid_pdrop=0.0, embd_pdrop=0.0,
        )
    ),
    "opt": lambda: tf.OPTForCausalLM(
        tf.OPTConfig(
            **COMMON, ffn_dim=48, max_position_embeddings=64, word_embed_proj_dim=WIDTH, init_std=0.4, dropout=0.0
        )
    ),
    "gpt_neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**PLAIN)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(
        tf.Gemma2Config(
            **PLAIN, num_key_value_heads=2, head_dim=8, sliding_window=4, layer_types=SLIDING_FIRST,
            attn_logit_softcapping=2.0, attention_dropout=0.5,
        )
    ),
    "gemma3": lambda: tf.Gemma3ForCausalLM(
        tf.Gemma3TextConfig(**PLAIN, num_key_value_heads=1, head_dim=8, sliding_window=4, layer_types=SLIDING_FIRST)
    ),
    "gpt_oss": lambda: tf.GptOssForCausalLM(
        tf.GptOssConfig(
            **PLAIN, num_key_value_heads=2, head_dim=8, sliding_window=4, layer_types=SLIDING_FIRST,
            num_local_experts=2, num_experts_per_tok=1,
        )
    ),
}  # fmt: skip
ENCODERS: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "bert": lambda: tf.BertModel(tf.BertConfig(**PLAIN), add_pooling_layer=False),
    "distilbert": lambda: tf.DistilBertModel(
        tf.DistilBertConfig(
            vocab_size=VOCAB, dim=WIDTH, hidden_dim=48, n_layers=LAYERS, n_heads=4, initializer_range=0.3
        )
    ),
    "modernbert": lambda: tf.ModernBertModel(
        tf.ModernBertConfig(
            **PLAIN, layer_types=SLIDING_FIRST, local_attention=4, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            cls_token_id=1, sep_token_id=2,
        )
    ),
}  # fmt: skip


def build(make: Callable[[], tf.PreTrainedModel]) -> tuple[tf.PreTrainedModel, tf.PreTrainedModel]:
    """The same random model twice: with token masses, and with eager attention."""
    torch.manual_seed(0)
    model = make().eval()
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    enable_token_mass(model)
    return model, eager


def inputs(side: str) -> dict[str, Tensor]:
    T = max(LENGTHS)
    torch.manual_seed(1)
    ids_BT = torch.randint(3, VOCAB, (len(LENGTHS), T))
    mask_BT = torch.stack([torch.arange(T) < n for n in LENGTHS])
    if side == "left":
        mask_BT = mask_BT.flip(1)
    return {"input_ids": ids_BT, "attention_mask": mask_BT.long()}


def expected(attention_BHTT: Tensor, mask_BT: Tensor, mode: Mode) -> Tensor:
    """The definition, a sample at a time, from a full attention map."""
    mass_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)
    for b, mask_T in enumerate(mask_BT.bool()):
        real = mask_T.nonzero()[:, 0]
        rows = real[-1:] if mode == "last" else real
        received = attention_BHTT[b].double()[:, rows].sum((0, 1))[real]
        mass_BT[b, real] = received / received.sum()
    return mass_BT
