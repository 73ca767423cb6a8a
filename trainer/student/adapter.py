"""LoRA (Hu et al., arXiv 2106.09685) and DoRA (Liu et al., arXiv 2402.09353) by PEFT: the student's own weights stay.

The layers are put into the transformers model itself, so that whatever runs it, or looks at its head, sees the model
that it knows. What is saved is an adapter as PEFT saves it. The head is never adapted: losses put states through its
weight.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from schemas.configs.training import AdapterConfig, StudentConfig
from schemas.errors import ModelError, RunError
from trainer.student.sentence_encoder import SentenceEncoder

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_NAME = "default"  # PEFT's, of a model's only adapter
_SAVED_BELOW = "base_model.model."  # where PEFT looks for the model in what is saved


def add_adapter(student: Any, config: StudentConfig) -> None:
    """Put a new adapter into the student, in place; only its parameters are trained from here on.

    Its random matrices come from torch's global generator; the others start at 0, so that the student computes what it
    did. Raises ModelError: peft is not installed, or a target is no linear layer below the head.
    """
    assert config.adapter is not None
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ModelError("student.adapter needs peft: pip install 'stillroom[lora]'") from error
    model = _model(student)
    settings = LoraConfig(
        r=config.adapter.rank,
        lora_alpha=config.adapter.alpha,
        lora_dropout=config.adapter.dropout,
        target_modules=find_targets(model, config.adapter),
        use_dora=config.adapter.kind == "dora",
        task_type="CAUSAL_LM" if config.kind == "causal" else "FEATURE_EXTRACTION",
        base_model_name_or_path=None if config.keep_layers else config.model,
        revision=None if config.keep_layers else config.revision,
    )
    with _quiet_peft():
        inject_adapter_in_model(settings, model, _NAME)


def find_targets(model: Any, config: AdapterConfig) -> list[str]:
    """The last names of the linear layers that `targets` names, or of all, in alphabetical order; never the head.

    Raises ModelError for one that is not there.
    """
    head = model.get_output_embeddings()
    linear = (nn.Linear, Conv1D)
    names = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, linear)}
    of_head = {name.rpartition(".")[2] for name, part in model.named_modules() if head is not None and part is head}
    found = sorted(names - of_head)
    if config.targets is None:
        if not found:
            raise ModelError(f"{type(model).__name__} has no linear layer below its head for an adapter")
        return found
    for target in config.targets:
        if target in of_head:
            raise ModelError(f"student.adapter.targets: {target} is the head, which losses read; adapters leave it out")
        if target not in found:
            raise ModelError(
                f"student.adapter.targets: {type(model).__name__} has no linear layer {target}; it has "
                f"{', '.join(found)}"
            )
    return sorted(set(config.targets))


def has_adapter(student: Any) -> bool:
    """Returns whether `add_adapter` was called on it."""
    return hasattr(_model(student), "peft_config")


def save_adapter(student: Any, folder: Path) -> None:
    """Write the adapter into a new folder, as `PeftModel.from_pretrained(base, folder)` reads it."""
    folder.mkdir(exist_ok=True)
    # Sets among the settings are in another order whenever Python starts.
    settings = _model(student).peft_config[_NAME].to_dict() | {"inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    (folder / CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weights = {name: weight.detach().cpu().contiguous() for name, weight in _weights(student).items()}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


@torch.no_grad()
def load_adapter(student: Any, folder: Path) -> None:
    """Put back what `save_adapter` wrote into a student with a new adapter. Raises RunError if it does not fit."""
    try:
        kept = load_file(folder / WEIGHTS)
        wanted = _weights(student)
        if kept.keys() != wanted.keys():
            raise ValueError(f"{min(kept.keys() ^ wanted.keys())} is on one side alone")
        for name, weight in wanted.items():
            if kept[name].shape != weight.shape:
                raise ValueError(f"{name} has the shape {tuple(kept[name].shape)} instead of {tuple(weight.shape)}")
            weight.copy_(kept[name])
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(f"cannot resume from {folder}: {error}; remove it to go back to the one before") from error


def merge_adapter(student: Any) -> None:
    """Add the adapter to the student's weights, in place: it is a plain model again, and computes the same."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = _model(student)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer) and isinstance(layer, nn.Module):
            layer.merge(safe_merge=True)
            model.set_submodule(name, layer.get_base_layer())
    del model.peft_config


def _weights(student: Any) -> dict[str, nn.Parameter]:
    """The adapter's parameters by the names that PEFT saves them under."""
    named = _model(student).named_parameters()
    return {_saved_name(name): weight for name, weight in named if f".{_NAME}." in name or name.endswith(f".{_NAME}")}


def _saved_name(name: str) -> str:
    plain = name.replace(f".{_NAME}", "")
    return _SAVED_BELOW + (plain.removesuffix(".weight") if ".lora_magnitude_vector." in plain else plain)


def _model(student: Any) -> Any:
    return student.model if isinstance(student, SentenceEncoder) else student


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Without warnings of old names that peft uses, and of transposed weights, which it finds by itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
