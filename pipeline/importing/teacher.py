"""The teacher of foreign numbers: its record, and of its weights the final norm and the unembedding alone.

Costs the unembedding's memory. Runs nothing of the model but the norm.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.teacher.record import describe_teacher
from schemas.cache.teacher import TeacherRecord
from schemas.configs.extraction import TeacherConfig
from schemas.errors import ModelError
from schemas.models.load import build_on_meta, read_config
from schemas.models.logits import find_head
from schemas.models.token_mass import find_blocks
from schemas.models.weights import find_weights


def describe_imported(config: TeacherConfig, folder: Path, with_states: bool) -> TeacherRecord:
    """The record of the model in `folder`; without hidden states, of its config.json alone, and without a head.

    Raises ModelError.
    """
    if with_states:
        return describe_teacher(config, folder)
    text_config = read_config(folder, "causal", trust_remote_code=False).get_text_config()
    return TeacherRecord(
        model=config.model if folder.parent.name == "snapshots" else folder.name,
        kind="causal",
        num_layers=text_config.num_hidden_layers,
        hidden_size=text_config.hidden_size,
        vocab_size=text_config.vocab_size,
        max_tokens=config.max_tokens,
    )


@dataclass(frozen=True)
class ImportedTeacher:
    """What `save_teacher_files` asks of a teacher, of one that is not loaded."""

    config: TeacherConfig
    folder: Path
    record: TeacherRecord
    parts: "LastParts | None" = None  # where the record has a head

    def head(self) -> tuple[Tensor, Tensor | None]:
        """W_U [V, d] and its bias [V], in the compute dtype."""
        assert self.parts is not None  # or there is no head to ask for
        return self.parts.weight_Vd, self.parts.bias_V

    def embedding(self) -> Tensor:
        """Nothing: no import asks for it."""
        raise ModelError("teacher.keep_embeddings: an import keeps none; set it to false")


@dataclass(frozen=True)
class LastParts:
    """The final norm and the unembedding of a model."""

    norm: nn.Module  # float32
    weight_Vd: Tensor
    bias_V: Tensor | None

    @torch.inference_mode()
    def normed(self, states_Td: Tensor) -> Tensor:
        """[T, d], in the dtype of what comes out of the last block."""
        found: Tensor = self.norm(states_Td.float())
        return found.to(states_Td.dtype)


def load_last_parts(config: TeacherConfig, folder: Path) -> LastParts:
    """Raises ModelError for a model whose last parts cannot be told by their names."""
    model = build_on_meta(folder, "causal", trust_remote_code=False)
    weight, bias = find_head(model)
    names = {id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=False)}
    head = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
    tied = [f"{name}.weight" for name, module in model.named_modules() if module is model.get_input_embeddings()]
    stored = _Stored(folder)
    dtype = getattr(torch, config.dtype)
    found = stored.first([f"{head}.weight", *(tied if model.config.get_text_config().tie_word_embeddings else [])])
    if found.shape != weight.shape:
        raise ModelError(f"{folder}: the unembedding is {list(found.shape)}, and by config.json {list(weight.shape)}")
    name, norm = _final_norm(model)
    norm = norm.to_empty(device="cpu").float()
    with torch.no_grad():
        for part, parameter in norm.named_parameters():
            parameter.copy_(stored.first([f"{name}.{part}"]).float())
    bias_V = None if bias is None else stored.first([names[id(bias)]]).to(dtype)
    return LastParts(norm.eval(), found.to(dtype), bias_V)


def _final_norm(model: Any) -> tuple[str, nn.Module]:
    """Its name and itself: the last norm that stands in no block."""
    inside = {id(module) for block in find_blocks(model) for module in block.modules()}
    norms = [
        (name, module)
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower() and id(module) not in inside
    ]
    if not norms or list(norms[-1][1].buffers()):
        raise ModelError(
            f"{type(model).__name__} has no final norm that can be told apart; its states cannot be imported"
        )
    return norms[-1]


class _Stored:
    """The tensors of a model's safetensors, by name."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._files = [path for path in find_weights(folder) if path.suffix == ".safetensors"]

    def first(self, names: list[str]) -> Tensor:
        """The first of them that is there. Raises ModelError."""
        for name in names:
            for path in self._files:
                try:
                    with safe_open(path, framework="pt") as file:
                        if name in file.keys():  # noqa: SIM118 - it is not a mapping
                            found: Tensor = file.get_tensor(name)
                            return found
                except (OSError, SafetensorError) as error:
                    raise ModelError(f"cannot read {path}: {error}") from error
        raise ModelError(f"{self._folder} has no weight {names[0]}; its states cannot be imported")
