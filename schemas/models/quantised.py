"""A model that is saved quantised: what its files say of it, and what it takes to run it.

transformers loads it as its own code does, weights as they are saved. What it would multiply with by compiled code from
the hub is unpacked while it loads, or refused, unless foreign code may be run.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer

from schemas.errors import ModelError
from schemas.models.files import brief, quiet_transformers, read_json
from schemas.models.gguf_header import read_gguf_header
from schemas.models.weights import GGUF, list_weights
from schemas.shown import quoted

FULL = "or give the folder of the full model"
_UNPACKED = ("fp8", "mxfp4", "mxfp8")  # run by code from the hub; else transformers can unpack them
_FOREIGN = ("eetq", "fbgemm_fp8", "metal")  # run by nothing else


def describe_quantisation(folder: Path) -> str | None:
    """How the weights in `folder` are quantised, in a few words: 'GGUF Q4_K, Q6_K, F32', 'bitsandbytes nf4'; None if
    they are not. Raises ModelError for files that cannot be read."""
    if list_weights(folder) == [folder / GGUF]:
        return f"GGUF {', '.join(read_gguf_header(folder / GGUF).types)}"
    settings = _settings(read_json(folder / "config.json"))
    return None if settings is None else _words(settings)


def runs_quantised(folder: Path, trust_remote_code: bool) -> bool:
    """Whether the model in `folder` multiplies with packed weights, because nothing unpacks them while it loads."""
    settings = _settings(read_json(folder / "config.json"))
    return settings is not None and (trust_remote_code or settings.get("quant_method") not in _UNPACKED)


def prepare_quantised(config: Any, folder: Path, trust_remote_code: bool) -> None:
    """Have transformers unpack what it would run by code from the hub. Raises ModelError for what can only be run so,
    and for a method that transformers does not know: it would read packed weights as plain ones."""
    settings = _settings(vars(config))
    if settings is None:
        return
    method = str(settings.get("quant_method", "bitsandbytes"))
    if method != "bitsandbytes" and method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise ModelError(f"{folder} is quantised by {quoted(method)}, which transformers does not know here; {FULL}")
    if trust_remote_code:
        return
    if method in _FOREIGN:
        raise ModelError(
            f"{folder} is quantised by {method}, which is run by compiled code from the hub: set "
            f"`trust_remote_code: true` to run that, {FULL}"
        )
    if method in _UNPACKED:
        settings["dequantize"] = True


def require_quantiser(config: Any, folder: Path) -> None:
    """Raises ModelError, with what to install, if the package that runs a quantised model is not here."""
    settings = _settings(vars(config))
    if settings is None:
        return
    try:
        with quiet_transformers():
            quantizer = AutoHfQuantizer.from_config(deepcopy(settings), pre_quantized=True)
            quantizer.validate_environment(device_map=None, weights_only=True)
    except RuntimeError:
        return  # it takes a GPU: a worker has one, and this need not be a worker
    except (ImportError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} is quantised ({_words(settings)}): {brief(error)}; {FULL}") from error


def set_dtype(model: Any, dtype: torch.dtype) -> None:
    """Bring what is not packed to `dtype`: transformers leaves it as it was saved, where bitsandbytes packed the rest.
    What the model's own code keeps in float32 stays so."""
    kept = {*model._keep_in_fp32_modules_strict, *(model._keep_in_fp32_modules if dtype == torch.float16 else ())}
    for name, parameter in model.named_parameters():
        if type(parameter) is nn.Parameter and parameter.is_floating_point() and not kept & {*name.split(".")}:
            parameter.data = parameter.data.to(dtype)


def require_steady(folder: Path) -> None:
    """Raises ModelError for a model that packs activations by what else is in their batch."""
    settings = _settings(read_json(folder / "config.json")) or {}
    if settings.get("load_in_8bit") and settings.get("llm_int8_threshold", 6.0):
        raise ModelError(
            f"{folder} is quantised by LLM.int8 (bitsandbytes), which looks through all tokens of a batch for what it "
            "computes in 16 bits, so that a text's states depend on its neighbours: they cannot be cached; set "
            "llm_int8_threshold to 0 in its config.json, or give the full model and `teacher.quantisation: int8`"
        )


def _settings(config: Any) -> dict[str, Any] | None:
    """What a config says, as it was read or as transformers holds it; that of a text model within counts."""
    text_config = config.get("text_config")
    parts = (config, text_config if isinstance(text_config, dict) else getattr(text_config, "__dict__", {}))
    return next((found for part in parts if isinstance(found := part.get("quantization_config"), dict)), None)


def _words(settings: dict[str, Any]) -> str:
    method, bits = str(settings.get("quant_method", "bitsandbytes")), settings.get("bits")
    if settings.get("load_in_4bit"):
        return f"{method} {settings.get('bnb_4bit_quant_type', 'fp4')}"
    if settings.get("load_in_8bit"):
        return f"{method} int8"
    if isinstance(kind := settings.get("quant_type"), dict) and isinstance(of_all := kind.get("default"), dict):
        return f"{method} {str(of_all.get('_type')).removesuffix('Config')}"
    return f"{method} {bits} bits" if isinstance(bits, int) else method
