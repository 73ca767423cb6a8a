"""A LoRA adapter merged into its teacher: safetensors alone, and no key of its config that has other code run."""

import warnings
from pathlib import Path
from typing import Any

from schemas.errors import ModelError
from schemas.models.files import brief, read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def merge_adapter(model: Any, adapter: Path) -> Any:
    """The model with W + BA in place of W: the same states as with the adapter beside it, at no cost per token.

    Raises ModelError: not a LoRA adapter in safetensors, one that needs other code, does not fit, or is incomplete.
    """
    require_plain_lora(adapter)
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
        # peft silently leaves out what it does not find: the adapter would have no effect there.
        if "missing adapter keys" in str(warning.message):
            raise ModelError(f"the adapter {adapter} is incomplete: {str(warning.message)[:300]}")
    return merged


def require_plain_lora(adapter: Path) -> None:
    """Raises ModelError unless the folder holds one LoRA adapter in safetensors.

    Where there are no safetensors, peft reads a pickle; for X-LoRA it reads whatever folders its config names.
    """
    for name in (CONFIG, WEIGHTS):
        if not (adapter / name).is_file():
            raise ModelError(f"{adapter} is not a LoRA adapter in safetensors: there is no {name}")
    config = read_json(adapter / CONFIG)
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{adapter / CONFIG}: `peft_type` is {config.get('peft_type')!r}; only LORA is known here")
    if config.get("megatron_config") is not None:
        raise ModelError(
            f"{adapter / CONFIG} sets `megatron_config`, with which peft imports whatever module "
            "`megatron_core` names; remove both"
        )
