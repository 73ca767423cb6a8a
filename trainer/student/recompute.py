"""Gradient checkpointing: the backward pass computes each layer again instead of keeping what the layer computed."""

from typing import Any

from schemas.errors import ModelError
from schemas.models.files import brief
from trainer.student.sentence_encoder import SentenceEncoder


def recompute_layers(student: Any) -> None:
    """Let training passes keep only what goes into each layer. Gradients stay the same, bit for bit.

    Dropout is drawn again as it was. Token masses are collected in the forward pass alone: no collector is active in
    the backward pass, and what it computed without gradient is not missed there. Raises ModelError if the model's code
    cannot do it.
    """
    model = student.model if isinstance(student, SentenceEncoder) else student
    # transformers renames the method; the older name warns where both are.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise ModelError(f"gradient_checkpointing: {brief(error)}; leave it out") from error
