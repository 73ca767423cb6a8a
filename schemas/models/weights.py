"""A model's weights: the safetensors that transformers would load, by plain names in the model's own folder.

In the folder that stands for a GGUF file, they are that file (`schemas.models.gguf_folder`).
"""

import re
from pathlib import Path

from schemas.errors import ModelError
from schemas.models.files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
GGUF = "weights.gguf"
_NOT_READ = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_PLAIN_NAME = re.compile(r"[\w][\w.-]*\.safetensors", re.ASCII)
# transformers would load files of such names in place of all others.
_RANK_LOCAL = "shard-[0-9]*-model-[0-9]*-of-[0-9]*.safetensors"
_ADAPTER = "adapter_config.json"


def find_weights(folder: Path) -> list[Path]:
    """The weight files that transformers would load, with their index if there are several.

    Raises ModelError: none there, only pickled ones, fewer than the index lists, names in the index that are not plain
    ones of safetensors, an adapter beside the weights.
    """
    if weights := list_weights(folder):
        return weights
    named = next((f"; or name its {path.name} itself" for path in sorted(folder.glob("*.gguf"))), "")
    raise ModelError(f"{folder} holds no weights: there is no {SINGLE}; give the folder of a whole model{named}")


def list_weights(folder: Path) -> list[Path]:
    """The same, or nothing for a folder without weights. Raises ModelError as `find_weights` does."""
    _refuse_others(folder)
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        names = _listed(folder / INDEX)
        for name in names:
            if not (folder / name).is_file():
                raise ModelError(f"{folder} lacks {name}, which {INDEX} lists; fetch the model again")
        return [folder / INDEX, *(folder / name for name in names)] if names else []
    if (folder / GGUF).is_file():
        return [folder / GGUF]
    if found := [path.name for pattern in _NOT_READ for path in sorted(folder.glob(pattern))]:
        raise ModelError(
            f"{folder} has its weights only as {found[0]}; pickles are not read, because reading one runs its code: "
            "convert it to safetensors (load it in transformers and save it with `save_pretrained`)"
        )
    return []


def _listed(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelError(f"{index} is damaged: `weight_map` gives no file for every weight; fetch the model again")
    names = sorted(set(weight_map.values()))
    for name in names:
        if not _PLAIN_NAME.fullmatch(name):
            raise ModelError(
                f"{index} lists {name[:80]!r}; only safetensors in the model's own folder are read, because reading a "
                "pickle runs its code: convert the model (load it in transformers and save it with `save_pretrained`)"
            )
    return names


def _refuse_others(folder: Path) -> None:
    """What transformers would read before the files above, or beside them."""
    if found := sorted(folder.glob(_RANK_LOCAL)):
        raise ModelError(
            f"{folder} holds {found[0].name}, a part of a distributed checkpoint, which would be read in place of "
            f"{SINGLE}: remove it"
        )
    if (folder / _ADAPTER).is_file() and ((folder / SINGLE).is_file() or (folder / INDEX).is_file()):
        raise ModelError(
            f"{folder} holds an adapter beside the model ({_ADAPTER}), which would be merged in silence: move the "
            "adapter's files to a folder of their own, and for a teacher name that in `teacher.adapter`"
        )
