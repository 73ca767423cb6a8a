"""The student, causal or encoder: loaded from a folder or hub id, or built from an architecture; one forward pass."""

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedTokenizerBase

from schemas.cache.manifest import read_manifest
from schemas.configs.training import StudentConfig
from schemas.errors import ModelError, RunError
from schemas.models.files import brief, resolve_model
from schemas.models.forward import forward_errors, unchanged
from schemas.models.load import AUTO, Kind, forbid_hub_kernels, load_model
from schemas.models.positions import known_tokens, prove_positions, require_positions, usable_positions
from schemas.models.quantised import FULL, runs_quantised
from schemas.models.sentence_layout import MODULES, SentenceLayout, read_layout, require_pooling
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from schemas.models.token_mass import collect_token_mass, enable_token_mass
from schemas.models.tokenizer import load_tokenizer
from trainer.data.batch import Batch
from trainer.student.cut import cut_layers
from trainer.student.final_states import Call, body_of, directly, has_plain_head, logits_of
from trainer.student.logits import Logits
from trainer.student.packed_attention import run_packed
from trainer.student.saved_tokenizer import require_savable
from trainer.student.sentence_encoder import SentenceEncoder
from trainer.student.states import (
    StudentEmbedding,
    StudentHidden,
    StudentLogits,
    StudentMass,
    StudentRequest,
    StudentStates,
    StudentUnembedding,
    layers_of,
)

UNBOUNDED = 8192  # tokens of a text, if an encoder has no limit of its own


def load_student_tokenizer(config: StudentConfig, cache: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of `config`, or the teacher's from the cache. Raises TokenizerError or ModelError."""
    folder = find_tokenizer(config)
    if folder is None:
        return load_teacher_tokenizer(cache, read_manifest(cache))
    return load_tokenizer(folder, config.trust_remote_code)


def find_tokenizer(config: StudentConfig) -> Path | None:
    """The folder of the tokenizer of `config`; None for the teacher's. Raises ModelError."""
    name = config.tokenizer or config.model
    if name == "teacher":
        return None
    assert name is not None  # the config has one of the two
    return resolve_model(name, config.revision if name == config.model else None)


def load_student(config: StudentConfig, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The student in float32, on the CPU, in training mode; random weights come from torch's global generator.

    Raises ModelError: no such model, not a causal one, an architecture transformers refuses, a vocabulary smaller than
    the tokenizer's. Raises TokenizerError: saved beside this model, AutoTokenizer would read another tokenizer.
    """
    if config.model is not None:
        folder = resolve_model(config.model, config.revision)
        if runs_quantised(folder, config.trust_remote_code):
            raise ModelError(f"student.model: {folder} is quantised, and packed weights learn nothing; {FULL}")
        model = _load(config.kind, folder, config.trust_remote_code)
        if config.keep_layers is not None:
            model = cut_layers(model, config.keep_layers)
    else:
        model = _build(config.kind, dict(config.architecture or {}), tokenizer)
    rows, tokens = known_tokens(model), max(tokenizer.get_vocab().values()) + 1
    if rows < tokens:
        raise ModelError(
            f"the student has {rows} embeddings for a tokenizer of {tokens} tokens; give the tokenizer it was made with"
        )
    require_positions(model, config.max_tokens, "student.max_tokens", "the student")
    require_savable(tokenizer, model.config)
    if config.kind == "causal":
        _require_causal(model)
    prove_positions(model, config.max_tokens, "student.max_tokens")
    if config.kind == "encoder":
        if config.model is not None:
            folder = resolve_model(config.model, config.revision)
            require_pooling(folder, config.max_tokens, config.pooling, "student.pooling")
        model = SentenceEncoder(model, SentenceLayout(config.pooling, config.normalise, config.max_tokens))
    return model.train()


@torch.no_grad()
def _require_causal(model: Any) -> None:
    """A student that sees the next token needs no learning to predict it; and no mask hides padding from it."""
    tokens_BS = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 0]])
    with unchanged(model), forward_errors(model, "over 4 tokens; look at its sizes"):
        first, second = model(input_ids=tokens_BS, use_cache=False).logits[:, :-1].float()
    if (first - second).abs().max() > 1e-4 * first.abs().max():
        raise ModelError(f"{type(model).__name__} lets a token see what follows it: it is not a causal language model")


def load_causal(folder: Path, trust_remote_code: bool = False) -> Any:
    """A causal model in float32 from a local folder. Raises ModelError; weights that are missing are not made up."""
    return _load("causal", folder, trust_remote_code)


def load_sentence_encoder(folder: Path, trust_remote_code: bool = False) -> SentenceEncoder:
    """A sentence encoder in float32 from a local folder that sentence-transformers could load. Raises ModelError."""
    model = _load("encoder", folder, trust_remote_code)
    return SentenceEncoder(model, read_layout(folder, usable_positions(model) or UNBOUNDED))


def load_saved(folder: Path, trust_remote_code: bool = False) -> Any:
    """A student of either kind, as its `save_pretrained` left it. Raises ModelError."""
    load = load_sentence_encoder if (folder / MODULES).is_file() else load_causal
    return load(folder, trust_remote_code)


def _load(kind: Kind, folder: Path, trust_remote_code: bool) -> Any:
    model = load_model(folder, kind, torch.float32, trust_remote_code)
    # Loaded weights lie in the mapped file at whatever offset they have there, and matrix products may round otherwise
    # at another alignment. In memory of their own, a resumed student goes on bit for bit.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def _build(kind: Kind, architecture: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Any:
    model_type = architecture.pop("model_type", None)
    if not isinstance(model_type, str):
        raise ModelError("student.architecture needs `model_type`, e.g. llama")
    given = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    given |= {"pad_token_id": tokenizer.pad_token_id} | architecture
    forbid_hub_kernels(trust_remote_code=False)
    try:
        model_config = AutoConfig.for_model(model_type, **given)
        unknown = [key for key in architecture if key not in type(model_config)().to_dict()]
        model = None if unknown else AUTO[kind].from_config(model_config, dtype=torch.float32)
    # A config is checked by its model's own code, which may raise anything; it is passed on, named.
    except Exception as error:
        problem = f"transformers cannot build this {model_type}: {brief(error)}"
        raise ModelError(f"student.architecture: {problem}") from error
    if unknown:
        raise ModelError(f"student.architecture: {model_type} has no setting {', '.join(unknown)}")
    return model


def prepare(model: Any, requests: Collection[StudentRequest[Any]]) -> None:
    """Let the student report token masses if the objective reads them; without, it runs its plain attention."""
    if layers_of(StudentMass, requests):
        enable_token_mass(model)


def forward(
    model: Any, batch: Batch, requests: Collection[StudentRequest[Any]], call: Call = directly
) -> StudentStates:
    """One pass over a batch; two of an encoder whose objective compares views. `call` runs a causal student whose
    weights are not at hand by themselves.

    Padding is on the right and a causal student's attention looks left, so it needs no mask and none is built: what is
    real never sees what is not.
    """
    answer = model.states if isinstance(model, SentenceEncoder) else partial(_causal_states, model, call)
    with forward_errors(model, "over a batch of {} × {} tokens".format(*batch.tokens_BS.shape)):
        states: StudentStates = answer(batch, requests)
    return states


def _causal_states(model: Any, call: Call, batch: Batch, requests: Collection[StudentRequest[Any]]) -> StudentStates:
    hidden, masses = layers_of(StudentHidden, requests), layers_of(StudentMass, requests)
    collecting: Any = collect_token_mass(masses, batch.mask_BS, "last") if masses else nullcontext({})
    plain = has_plain_head(model)
    run = body_of(model) if plain else model
    with collecting as mass:
        if batch.packing is None:
            output = call(run, input_ids=batch.tokens_BS, use_cache=False, output_hidden_states=bool(hidden))
            states = {layer: output.hidden_states[layer] for layer in hidden}
        else:  # by a model with a plain head, or it could not be packed
            output = run_packed(run, batch.tokens_BS, batch.packing, call, output_hidden_states=bool(hidden))
            states = {layer: batch.packing.unpack(output.hidden_states[layer]) for layer in hidden}
    if plain:
        final = output.last_hidden_state
        logits = logits_of(model, final if batch.packing is None else batch.packing.unpack(final))
    else:
        logits = Logits(output.logits)
    return StudentStates({request: _answer(request, model, logits, states, mass) for request in requests})


def _answer(
    request: StudentRequest[Any],
    model: Any,
    logits: Logits,
    hidden: Mapping[int, Tensor],
    mass: Mapping[int, Tensor],
) -> Any:
    match request:
        case StudentLogits():
            return logits
        case StudentHidden(layer):
            return hidden[layer]
        case StudentMass(layer):
            return mass[layer]
        case StudentEmbedding():
            return model.get_input_embeddings()
        case StudentUnembedding():
            return model.get_output_embeddings()
    raise RunError(f"a causal student has no {request}: the loss that asks for it is for another kind of student")
