"""Small real GGUF files: a Llama of `tests.tiny` with its tokenizer, as llama.cpp's converter would write it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter, ReaderTensor, TokenType
from gguf.quants import quantize
from transformers import LlamaForCausalLM

from tests.tiny import tiny_llama, tiny_tokenizer

NAMES = {
    r"model\.embed_tokens": "token_embd",
    r"model\.norm": "output_norm",
    r"lm_head": "output",
    r"model\.layers\.(\d+)\.input_layernorm": r"blk.\1.attn_norm",
    r"model\.layers\.(\d+)\.post_attention_layernorm": r"blk.\1.ffn_norm",
    r"model\.layers\.(\d+)\.self_attn\.([qkv])_proj": r"blk.\1.attn_\2",
    r"model\.layers\.(\d+)\.self_attn\.o_proj": r"blk.\1.attn_output",
    r"model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj": r"blk.\1.ffn_\2",
}
KEY_VALUE_HEADS, HEADS = 2, 4


def gguf_name(name: str) -> str:
    """In the file, of a weight that is called `name` in transformers."""
    for pattern, replacement in NAMES.items():
        if match := re.fullmatch(rf"{pattern}\.weight", name):
            return match.expand(replacement) + ".weight"
    raise AssertionError(name)


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys as llama.cpp turns them: the two halves of each head in turn, where transformers has one
    half after the other."""
    of_heads = weight.reshape(heads, 2, -1, weight.shape[1])
    return of_heads.swapaxes(1, 2).reshape(weight.shape)


def stored_weights(model: Any) -> dict[str, np.ndarray]:
    """The weights of a Llama by their names and in their order in a GGUF file, in float32."""
    found = {}
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        if ".q_proj." in name or ".k_proj." in name:
            values = interleaved(values, HEADS if ".q_proj." in name else KEY_VALUE_HEADS)
        found[gguf_name(name)] = values
    return found


def unpacked(tensor: ReaderTensor) -> np.ndarray:
    """The numbers of a tensor, one after the other, as ggml's C structures have them (ggml-common.h)."""
    return np.fromiter(_numbers(tensor.data.tobytes(), tensor.tensor_type), np.float32)


def _numbers(raw: bytes, type: Type) -> Iterator[Any]:
    if type == Type.F32:
        yield from np.frombuffer(raw, np.float32)
        return
    size = {Type.Q8_0: 34, Type.Q4_0: 18}[type]
    for start in range(0, len(raw), size):
        scale = np.float32(np.frombuffer(raw, np.float16, 1, start)[0])
        rest = raw[start + 2 : start + size]
        if type == Type.Q8_0:  # 32 signed bytes
            yield from (scale * np.float32(byte - 256 if byte > 127 else byte) for byte in rest)
        else:  # the low halves of 16 bytes, then the high ones
            yield from (scale * np.float32((byte & 15) - 8) for byte in rest)
            yield from (scale * np.float32((byte >> 4) - 8) for byte in rest)


def plain_model(path: Path) -> LlamaForCausalLM:
    """The Llama in a file, made of its bytes without transformers' reader."""
    model = LlamaForCausalLM.from_pretrained(path.parent / "full").eval()
    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            values = unpacked(tensors[gguf_name(name)]).reshape(weight.shape)
            if ".q_proj." in name or ".k_proj." in name:
                heads = HEADS if ".q_proj." in name else KEY_VALUE_HEADS
                values = values.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
            weight.copy_(torch.from_numpy(values))
    return model


def tiny_gguf(
    path: Path,
    types: Callable[[str], Type] = lambda name: Type.Q4_0 if "ffn" in name else Type.Q8_0,
    edit: Callable[[GGUFWriter], None] = lambda writer: None,
    layers: int = 2,
) -> Path:
    """A random Llama whose matrices are stored in `types`, norms in float32; its own folder is beside, in `full`.

    `edit` adds what else the file is to hold.
    """
    tokenizer = tiny_tokenizer(path.parent / "full", "bytelevel")
    model = tiny_llama(path.parent / "full", tokenizer, layers=layers, heads=HEADS)
    writer = GGUFWriter(path, "llama")
    config = model.config
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer)
    for name, weight in stored_weights(model).items():
        kind = Type.F32 if "norm" in name else types(name)
        writer.add_tensor(name, quantize(weight, kind), raw_dtype=kind)
    edit(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: GGUFWriter, tokenizer: Any) -> None:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    special = {token["content"] for token in state["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in state["model"]["merges"]])
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        add(token)
    writer.add_add_bos_token(False)
