"""A model's weights: the safetensors that transformers would load, and nothing else."""

from pathlib import Path

from schemas.errors import ModelError
from schemas.models.files import read_json

_NOT_READ = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def find_weights(folder: Path) -> list[Path]:
    """The weight files that transformers would load, with their index if there are several.

    Raises ModelError: none there, only pickled ones, or fewer than the index lists.
    """
    if weights := list_weights(folder):
        return weights
    raise ModelError(f"{folder} holds no weights: there is no model.safetensors; give the folder of a whole model")


def list_weights(folder: Path) -> list[Path]:
    """The same, or nothing for a folder without weights. Raises ModelError as `find_weights` does."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        return [single]
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelError(f"{index} is damaged: `weight_map` gives no file for every weight; fetch the model again")
        names = sorted(set(weight_map.values()))
        for name in names:
            if not (folder / name).is_file():
                raise ModelError(f"{folder} lacks {name}, which {index.name} lists; fetch the model again")
        return [index, *(folder / name for name in names)] if names else []
    if found := [path.name for pattern in _NOT_READ for path in sorted(folder.glob(pattern))]:
        raise ModelError(
            f"{folder} has its weights only as {found[0]}; no pickle is read, for reading one runs its code: "
            "convert it to safetensors (load it in transformers and save it with `save_pretrained`)"
        )
    return []
