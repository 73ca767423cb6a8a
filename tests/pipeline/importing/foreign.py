"""Small files as DistillKit, axolotl and vLLM speculators write them, of a tiny teacher that is run here.

Written by what those programs' own sources say, and not by the code that reads them.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

K = 300  # of 400 tokens: a random teacher's texts are at none of its likeliest
DRAWN = 12  # of answers, whose own tokens stand in their rows
COMPRESSION = """
d: 400
k: 24
exact_k: 4
exact_dtype: float32
polynomial_terms: [0, 1, 2, sqrt]
term_dtype: float32
residual_bins:
- {scale_dtype: float16, element_bits: 5, num_elements: 7}
- {scale_dtype: float16, element_bits: 3, num_elements: 9}
delta_encoding: true
error_diffusion: false
"""
UNSPELT = 105  # the byte of an e, which the tokenizer never takes for the letter


@lru_cache
def loaded(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model)


def outputs(model: Path, ids: Sequence[int]) -> Any:
    teacher = loaded(model)
    with torch.inference_mode():
        return teacher(input_ids=torch.tensor([list(ids)]), output_hidden_states=True)


def likeliest(model: Path, ids: Sequence[int], k: int = K) -> tuple[list[list[int]], list[list[float]]]:
    """Per token of `ids` the k likeliest next ones, and their log-probabilities."""
    values, found = outputs(model, ids).logits[0].double().log_softmax(-1).topk(k)
    return found.tolist(), values.tolist()


def distillkit_rows(model: Path, texts: Sequence[str], k: int = K) -> list[dict[str, Any]]:
    """As `sample_logits_vllm` has them: one token of padding behind a text, and a row for every token but that one."""
    tokenizer, rows = AutoTokenizer.from_pretrained(model), list[dict[str, Any]]()
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        found, values = likeliest(model, ids, k)
        rows.append({"input_ids": [*ids, tokenizer.pad_token_id], "token_ids": found, "top_values": values})
    return rows


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def write_axolotl(path: Path, model: Path, chats: Sequence[list[dict[str, Any]]], version: int) -> Path:
    """The rows of each conversation's last answer and the token that ends it."""
    tokenizer, lines = AutoTokenizer.from_pretrained(model), list[str]()
    for messages in chats:
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        question = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        first = len(tokenizer(question, add_special_tokens=False)["input_ids"])
        end = max(place for place, token in enumerate(ids) if token == tokenizer.eos_token_id)
        logp_TV, rows = outputs(model, ids).logits[0].double().log_softmax(-1), []
        values, found = (part.tolist() for part in logp_TV.topk(DRAWN))
        for place in range(first - 1, end):
            drawn = ids[place + 1]  # vLLM adds what was drawn to the likeliest
            entries = dict(zip(found[place], values[place], strict=True))
            entries.setdefault(drawn, logp_TV[place, drawn].item())
            rows.append(entries)
        record: dict[str, Any] = {"messages": messages}
        if version == 1:
            record["logprobs"] = [[{"token": f"token_id:{t}", "logprob": v} for t, v in row.items()] for row in rows]
        else:
            record |= {
                "logprobs": [list(row.values()) for row in rows],
                "target_token_ids": [list(row) for row in rows],
            }
        lines.append(json.dumps(record))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_speculators(
    folder: Path, model: Path, texts: Sequence[str], layers: Sequence[int], dtype: torch.dtype = torch.float32
) -> Path:
    """What `prepare_data.py` and `data_generation_offline.py` leave: a saved data set, and a file for each row."""
    tokenizer, teacher = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    before_norm: list[torch.Tensor] = []
    teacher.model.norm.register_forward_pre_hook(lambda module, arguments: before_norm.append(arguments[0]))
    rows = []
    (folder / "hidden_states").mkdir(parents=True)
    for number, text in enumerate(texts):
        ids = tokenizer(text)["input_ids"]
        with torch.inference_mode():
            states = list(teacher(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states)
        states[-1] = before_norm[-1]
        stacked = torch.stack([states[layer][0] for layer in layers], dim=1).to(dtype).contiguous()
        save_file(
            {"hidden_states": stacked.clone(), "token_ids": torch.tensor(ids)},
            folder / "hidden_states" / f"hs_{number}.safetensors",
        )
        mask = [0] * (len(ids) // 3) + [1] * (len(ids) - len(ids) // 3)
        rows.append({"input_ids": ids, "loss_mask": mask, "seq_len": len(ids)})
    table = pa.Table.from_pylist(rows)  # as `datasets` saves one
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": None}))
    (folder / "dataset_info.json").write_text("{}")
    (folder / "token_freq.pt").write_bytes(b"a pickle")
    return folder


def compress(
    ids: np.ndarray, logprobs: np.ndarray, exact_k: int, terms: list[Any], bins: list[tuple[int, int]]
) -> tuple[bytes, bytes, np.ndarray]:
    """One row, likeliest first, of a vocabulary of 400, delta-encoded, bit by bit: the bytes of its ids and of its
    log-probabilities, and what is to be read of these. Exact values and coefficients are float32, scales float16."""
    packed_ids = "".join(f"{token:09b}" for token in ids)
    deltas = np.diff(logprobs, prepend=0.0).astype(np.float32)
    exact, others = deltas[:exact_k], deltas[exact_k:].astype(np.float64)
    place = np.arange(len(others), dtype=np.float64)
    X = np.stack([np.sqrt(place) if term == "sqrt" else place**term for term in terms], 1)
    coefficients = np.linalg.lstsq(X, others, rcond=None)[0].astype(np.float32)
    about = X @ coefficients.astype(np.float64)
    out, read, done = exact.tobytes() + coefficients.tobytes(), about.copy(), 0
    for bits, count in bins:
        left = others[done : done + count] - about[done : done + count]
        scale = np.float16(np.abs(left).max() / 2 ** (bits - 1))
        codes = np.clip(np.round(left / np.float64(scale)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(int)
        read[done : done + count] += codes * np.float64(scale)
        out += scale.tobytes() + to_bytes("".join(f"{code + 2 ** (bits - 1):0{bits}b}" for code in codes))
        done += count
    return to_bytes(packed_ids), out, np.cumsum(np.concatenate([exact.astype(np.float64), read]))


def to_bytes(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))
