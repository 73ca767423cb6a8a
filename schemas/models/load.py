"""A model from its folder: safetensors or a GGUF file alone, every weight of them, and nothing foreign run.

transformers initialises weights that a file lacks at random and says so in a log line; here that is an error. A folder
may also name attention kernels that are fetched from the hub and run, or an adapter beside the model that is merged in
silence: without `trust_remote_code` the former are left out, and the latter is always refused.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig
from transformers.integrations import hub_kernels

from schemas.errors import ModelError
from schemas.models.files import brief, quiet_transformers, read_json, require_small_files
from schemas.models.gguf_weights import gguf_arguments, no_bar, require_every_gguf_weight
from schemas.models.left_out import weights_left_out
from schemas.models.quantised import prepare_quantised, require_quantiser
from schemas.models.sizes import require_countable, require_layers, require_weights_for
from schemas.models.weights import GGUF, find_weights

Kind = Literal["causal", "encoder"]
AUTO: dict[Kind, Any] = {"causal": AutoModelForCausalLM, "encoder": AutoModel}
NAMES: dict[Kind, str] = {"causal": "a causal language model", "encoder": "an encoder"}
# What transformers implements itself. Anything else comes from a package or the hub.
_ATTENTION = (None, "eager", "sdpa", "flex_attention")
_EXPERTS = (None, "eager", "grouped_mm", "batched_mm")
_HUB_KERNELS_ENABLED = hub_kernels._kernels_enabled  # as the environment has it


def read_config(folder: Path, kind: Kind, trust_remote_code: bool) -> PreTrainedConfig:
    """The folder's config.

    Raises ModelError: none, damaged, of an unknown model, of sizes that no model has, or it needs code of its own.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a model folder: there is no config.json")
    require_small_files(folder, ModelError)
    stored = read_json(folder / "config.json")
    if stored.get("transformers_weights") is not None:
        raise ModelError(
            f"{folder / 'config.json'} names weights of its own (`transformers_weights`); only model.safetensors and "
            "the files of its index are read: remove that key"
        )
    require_countable(stored, folder / "config.json")
    forbid_hub_kernels(trust_remote_code)
    try:
        with quiet_transformers():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                folder, trust_remote_code=trust_remote_code, local_files_only=True
            )
    # A config is checked by its model's own code, which may raise anything; it is passed on, named.
    except Exception as error:
        raise _cannot_build(folder, kind, trust_remote_code, error) from error
    require_layers(config, folder / "config.json")
    if not trust_remote_code:
        _drop_foreign_kernels(config)
    prepare_quantised(config, folder, trust_remote_code)
    return config


def build_on_meta(folder: Path, kind: Kind, trust_remote_code: bool) -> Any:
    """The model without its weights, on torch's meta device: no memory, a second or two if it has many layers.

    Raises ModelError as `read_config` does, for sizes that do not go together, and for the package that a quantised
    model lacks here.
    """
    config = read_config(folder, kind, trust_remote_code)
    require_quantiser(config, folder)
    return _build(folder, kind, trust_remote_code, config)


def _build(folder: Path, kind: Kind, trust_remote_code: bool, config: PreTrainedConfig) -> Any:
    try:
        with quiet_transformers(), torch.device("meta"):
            return AUTO[kind].from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise _cannot_build(folder, kind, trust_remote_code, error) from error


def load_model(
    folder: Path,
    kind: Kind,
    dtype: torch.dtype,
    trust_remote_code: bool = False,
    placement: Mapping[str, Any] | None = None,
) -> Any:
    """The model in `dtype`, on the CPU, or where `placement`, arguments of `from_pretrained`, puts it.

    Raises ModelError: no weights, damaged ones, some that are missing, of another shape than config.json says, of
    layers that it does not count, or quantised in a way that cannot be run here.
    """
    config = read_config(folder, kind, trust_remote_code)
    require_quantiser(config, folder)
    weights = find_weights(folder)
    is_gguf = weights == [folder / GGUF]
    require_weights_for(_build(folder, kind, trust_remote_code, deepcopy(config)), weights)
    try:
        with quiet_transformers(), no_bar() if is_gguf else nullcontext():
            model, info = AUTO[kind].from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # so that they are listed, and refused below by name
                output_loading_info=True,
                **(gguf_arguments() if is_gguf else {}),
                **(placement or {}),
            )
    # Models are loaded by their own code, which may raise anything; it is passed on, named.
    except Exception as error:
        raise ModelError(f"cannot load {NAMES[kind]} from {folder}: {brief(error)}") from error
    _refuse_made_up_weights(kind, folder, type(model).__name__, info)
    if is_gguf:
        require_every_gguf_weight(folder, model)
    if left_out := weights_left_out(model, info["unexpected_keys"]):
        raise ModelError(
            f"{folder} holds {len(left_out)} weights that its config.json has no place for, among them {left_out[0]}: "
            "without them it would be another model; give config.json as it was saved with the weights (does it count "
            "every layer?)"
        )
    return model


def _refuse_made_up_weights(kind: Kind, folder: Path, model: str, info: dict[str, Any]) -> None:
    # Encoders are often saved without the pooler, which no hidden state passes through.
    missing = sorted(name for name in info["missing_keys"] if kind == "causal" or "pooler" not in name.split("."))
    if missing:
        hint = "; is this an encoder? then set `kind: encoder`" if kind == "causal" else ""
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


def _cannot_build(folder: Path, kind: Kind, trust_remote_code: bool, error: Exception) -> ModelError:
    own_code = "auto_map" in read_json(folder / "config.json") and not trust_remote_code
    hint = "; it brings its own code: set `trust_remote_code: true` to run that" if own_code else ""
    return ModelError(f"cannot build {NAMES[kind]} from {folder}: {brief(error)}{hint}")


def _drop_foreign_kernels(config: PreTrainedConfig) -> None:
    """Let transformers choose where a config.json names an attention or experts implementation that is not its own."""
    if config._attn_implementation not in _ATTENTION:
        config._attn_implementation = None
    if config._experts_implementation not in _EXPERTS:
        config._experts_implementation = None
    for name in config.sub_configs:
        if isinstance(part := getattr(config, name, None), PreTrainedConfig):
            _drop_foreign_kernels(part)


def forbid_hub_kernels(trust_remote_code: bool) -> None:
    """With the package `kernels` installed, models such as Mamba fetch compiled code from the hub and run it, unless
    USE_HUB_KERNELS says no. transformers reads that variable once, so its own note of it is what is set."""
    hub_kernels._kernels_enabled = trust_remote_code and _HUB_KERNELS_ENABLED
