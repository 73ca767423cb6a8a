"""The weights of a GGUF file, unpacked to plain numbers, and all of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import transformers

from schemas.errors import ModelError
from schemas.models.gguf_header import read_gguf_header
from schemas.models.weights import GGUF
from schemas.shown import listed

_TIED = "output.weight"  # some files repeat the embeddings where the head is tied to these


def gguf_arguments() -> dict[str, Any]:
    """What `from_pretrained` takes to unpack a file while it loads.

    Without, transformers fetches compiled code from the hub that multiplies with packed blocks, where it can.
    """
    config = getattr(transformers, "GgufConfig", None)  # earlier releases always unpack
    return {"gguf_file": GGUF} | ({} if config is None else {"quantization_config": config(dequantize=True)})


@contextmanager
def no_bar() -> Iterator[None]:
    """transformers shows a bar while it unpacks a file, whatever it is told."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        yield


def require_every_gguf_weight(folder: Path, model: Any) -> None:
    """Raises ModelError if the file holds more numbers than the model that was made of it: transformers leaves tensors
    out in silence that it has no name for, such as the factors by which Llama 3.1 stretches its positions."""
    tensors = read_gguf_header(folder / GGUF).tensors
    if model.config.get_text_config().tie_word_embeddings:
        tensors = {name: tensor for name, tensor in tensors.items() if name != _TIED}
    numbers = sum(parameter.numel() for parameter in model.parameters())  # one that is tied counts once
    more = sum(tensor.numbers for tensor in tensors.values()) - numbers
    if more > 0:
        odd = sorted(name for name, tensor in tensors.items() if tensor.numbers <= more and not name.startswith("blk."))
        among = f", perhaps {listed(odd[:3])}" if odd else ""
        raise ModelError(
            f"{(folder / GGUF).resolve()} holds {more:,} numbers that transformers does not read{among}: without them "
            "it would be another model; give the model's own folder"
        )
