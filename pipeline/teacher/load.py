"""Loading a teacher: weights from safetensors, an adapter merged, on its device, and nothing made up on the way.

transformers initialises weights that a file lacks at random and says so in a log line; here that is an error.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM

from schemas.configs.extraction import TeacherConfig
from schemas.errors import ModelError, ResourceError
from schemas.models.files import brief, quiet_transformers
from schemas.models.weights import find_weights


def load_teacher(config: TeacherConfig, folder: Path, adapter: Path | None) -> Any:
    """The model in `config.dtype` on its device, for inference only.

    Raises ModelError: damaged, incomplete or misshapen weights, an adapter that does not fit; ResourceError: no GPU.
    """
    device = choose_device(config)
    find_weights(folder)
    auto = AutoModelForCausalLM if config.kind == "causal" else AutoModel
    try:
        with quiet_transformers():
            loaded: Any = auto.from_pretrained(
                folder,
                dtype=getattr(torch, config.dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=config.trust_remote_code,
                ignore_mismatched_sizes=True,  # so that they are listed, and refused below by name
                output_loading_info=True,
            )
            model, info = loaded
    # Models are loaded by their own code, which may raise anything; it is passed on, named.
    except Exception as error:
        raise ModelError(f"cannot load the {config.kind} model in {folder}: {brief(error)}") from error
    _refuse_made_up_weights(config, folder, type(model).__name__, info)
    if adapter is not None:
        model = _merge_adapter(model, adapter)
    return model.eval().requires_grad_(False).to(device)


def choose_device(config: TeacherConfig) -> torch.device:
    """Where the teacher runs; auto is the GPU if there is one. Raises ResourceError."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ResourceError("teacher.device is cuda, but torch sees no GPU here; set workers.gpus, or device: cpu")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(found if config.device == "auto" else config.device)


def _refuse_made_up_weights(config: TeacherConfig, folder: Path, model: str, info: dict[str, Any]) -> None:
    # Encoders are often saved without the pooler, which no hidden state passes through.
    missing = sorted(
        name for name in info["missing_keys"] if config.kind == "causal" or "pooler" not in name.split(".")
    )
    if missing:
        hint = "; is this an encoder? then set `kind: encoder`" if config.kind == "causal" else ""
        raise ModelError(
            f"{folder} lacks {len(missing)} weights of {model}, among them {missing[0]}; "
            f"loading it would make them up at random{hint}"
        )
    if info["mismatched_keys"]:
        name, found, wanted = sorted(info["mismatched_keys"])[0]
        raise ModelError(
            f"the weights in {folder} do not fit its config.json: {name} is {list(found)} instead of {list(wanted)} "
            f"({len(info['mismatched_keys'])} such weights)"
        )


def _merge_adapter(model: Any, adapter: Path) -> Any:
    """The model with W + BA in place of W: the same states as with the adapter beside it, at no cost per token."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / name).is_file():
            raise ModelError(f"{adapter} is no LoRA adapter in safetensors: there is no {name}")
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError("teacher.adapter needs peft: pip install 'stillroom[lora]'") from error
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(model, str(adapter))
            merged = adapted.merge_and_unload(safe_merge=True)
    # peft and the model's own code may raise anything; it is passed on, named.
    except Exception as error:
        raise ModelError(f"the adapter {adapter} does not fit the teacher: {brief(error)}") from error
    for warning in caught:
        # peft leaves out what it does not find: the adapter would have no effect there, without a word.
        if "missing adapter keys" in str(warning.message):
            raise ModelError(f"the adapter {adapter} is incomplete: {str(warning.message)[:300]}")
    return merged
