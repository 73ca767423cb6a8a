"""What `stillroom train` may be asked for."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from schemas.configs.extraction import Pooling
from schemas.configs.losses import CrossEntropyConfig, LossConfig
from schemas.strict import Strict


class StudentConfig(Strict):
    """The model that is trained: a folder, a hub id, or an architecture that starts from random weights."""

    kind: Annotated[
        Literal["causal", "encoder"],
        Field(description="A language model by AutoModelForCausalLM, or a sentence encoder by AutoModel."),
    ] = "causal"
    model: Annotated[str | None, Field(description="Local folder or hub id to start from.")] = None
    revision: Annotated[str | None, Field(description="Hub revision; ignored for a local folder.")] = None
    architecture: Annotated[
        dict[str, Any] | None,
        Field(
            description="A transformers config with `model_type`; vocabulary and special tokens are the tokenizer's."
        ),
    ] = None
    tokenizer: Annotated[
        str | None,
        Field(description="Folder, hub id, or 'teacher' for the one kept in the cache; left out, the model's own."),
    ] = None
    trust_remote_code: Annotated[bool, Field(description="Run Python code that ships with the model.")] = False
    max_tokens: Annotated[
        int, Field(ge=2, description="Longer samples are cut, and their teacher spans with them.")
    ] = 1024
    append_eos: Annotated[
        bool, Field(description="End every uncut sample with the end-of-sequence token; causal students.")
    ] = True
    pooling: Annotated[
        Pooling, Field(description="An encoder's sentence embedding: mean over tokens, the first (cls), or the last.")
    ] = "mean"
    normalise: Annotated[
        bool, Field(description="An encoder's embeddings have length 1; its losses learn directions alone.")
    ] = True
    embeddings: Annotated[
        Literal["teacher_pca"] | None,
        Field(
            description="How an architecture's word embeddings start: from the principal components of the teacher's, "
            "which the cache must hold (teacher.keep_embeddings), or at random."
        ),
    ] = None

    @model_validator(mode="after")
    def _one_origin(self) -> "StudentConfig":
        if (self.model is None) == (self.architecture is None):
            raise ValueError("give exactly one of model, architecture")
        if self.architecture is not None and self.tokenizer is None:
            raise ValueError("an architecture has no tokenizer of its own: give `tokenizer`, e.g. 'teacher'")
        if self.embeddings is not None and (self.architecture is None or self.tokenizer != "teacher"):
            raise ValueError("`embeddings: teacher_pca` is for an architecture with `tokenizer: teacher`")
        return self


class SharpnessConfig(Strict):
    """Adaptive sharpness-aware minimisation around AdamW (ASAM, arXiv 2102.11600): every step takes two passes."""

    rho: Annotated[float, Field(gt=0, description="Size of the perturbation, relative to the weights.")] = 0.05
    eta: Annotated[float, Field(ge=0, description="Added to every |w|, so that weights at 0 are perturbed too.")] = 0.01


class OptimizerConfig(Strict):
    """AdamW with linear warm-up and cosine decay."""

    lr: Annotated[float, Field(gt=0, description="Peak learning rate.")] = 1e-3
    min_lr: Annotated[float, Field(ge=0, description="Learning rate at the last step.")] = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1, description="Share of the steps spent warming up.")] = 0.1
    betas: Annotated[tuple[float, float], Field(description="AdamW's moment decays.")] = (0.9, 0.95)
    eps: Annotated[float, Field(gt=0, description="AdamW's denominator floor.")] = 1e-8
    weight_decay: Annotated[
        float, Field(ge=0, description="On matrices only; never on biases, norms or projections.")
    ] = 0.1
    clip: Annotated[
        float | None, Field(gt=0, description="Largest global gradient norm; null switches clipping off.")
    ] = 1.0
    sharpness: Annotated[
        SharpnessConfig | None,
        Field(description="Take the gradient at the worst weights nearby; {} does so with the defaults."),
    ] = None

    @model_validator(mode="after")
    def _decays(self) -> "OptimizerConfig":
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr ({self.min_lr:g}) is above lr ({self.lr:g})")
        return self


class EvaluationConfig(Strict):
    """What is held out and measured while training: bits per byte of texts, or how sentence pairs rank."""

    texts: Annotated[
        Path | None,
        Field(description="For causal students: JSONL or plain text file, as `stillroom evaluate --text` reads it."),
    ] = None
    pairs: Annotated[
        Path | None,
        Field(description="For encoders: sentences that people scored, as `stillroom evaluate --pairs` reads them."),
    ] = None
    field: Annotated[str, Field(description="Field of a JSONL record that holds the text.")] = "text"
    every: Annotated[int, Field(ge=1, description="Steps between two evaluations; the last step is always one.")] = 100
    limit: Annotated[int | None, Field(ge=1, description="Use only the first so many texts or pairs.")] = None

    @model_validator(mode="after")
    def _one_kind(self) -> "EvaluationConfig":
        if (self.texts is None) == (self.pairs is None):
            raise ValueError("give exactly one of texts, pairs")
        return self


class TrainingConfig(Strict):
    """One student run over a teacher cache."""

    cache: Annotated[Path, Field(description="The cache folder that `stillroom extract` wrote.")]
    student_cache: Annotated[
        Path | None,
        Field(description="A cache of texts that the student wrote (`stillroom generate`), of the same teacher."),
    ] = None
    output: Annotated[Path, Field(description="The run's folder: model, config, metrics, checkpoints.")]
    student: StudentConfig
    objective: Annotated[
        list[LossConfig], Field(min_length=1, description="Weighted losses; their sum is minimised.")
    ] = [CrossEntropyConfig()]
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: Annotated[int, Field(ge=0, description="Initial weights, shuffling and dropout.")] = 0
    steps: Annotated[int | None, Field(ge=1, description="Optimiser steps.")] = None
    epochs: Annotated[float | None, Field(gt=0, description="Passes over the cache, instead of `steps`.")] = None
    batch_size: Annotated[int, Field(ge=1, description="Samples of one forward pass.")] = 16
    accumulation: Annotated[int, Field(ge=1, description="Forward passes of one optimiser step.")] = 1
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="Autocast; auto is bfloat16 on a GPU that has it, else float32."),
    ] = "auto"
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto takes a GPU if there is one.")] = "auto"
    threads: Annotated[int | None, Field(ge=1, description="CPU threads; left out, torch decides.")] = None
    loader_workers: Annotated[int, Field(ge=0, description="Processes that read and align ahead; 0 reads in line.")] = 0
    checkpoint_every: Annotated[
        int, Field(ge=1, description="Steps between checkpoints: the most that a crash can cost.")
    ] = 500
    keep_checkpoints: Annotated[int, Field(ge=1, description="Older checkpoints are removed.")] = 1
    log_every: Annotated[int, Field(ge=1, description="Steps between two lines of the metrics file.")] = 10
    min_coverage: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Where a loss reads the teacher: training refuses below this share of response characters "
            "covered by aligned spans.",
        ),
    ] = 0.5
    min_agreement: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Where a loss reads the teacher: training refuses below this number of aligned spans for a "
            "token of the side that has fewer.",
        ),
    ] = 0.1
    evaluation: EvaluationConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps, epochs")
        if all(loss.weight == 0 for loss in self.objective):
            raise ValueError("every loss of the objective has weight 0: there is nothing to minimise")
        wanted = any(loss.texts == "student" for loss in self.objective if loss.weight > 0)
        if wanted != (self.student_cache is not None):
            raise ValueError("`student_cache` goes with a loss that has `texts: student`, and such a loss needs it")
        if all(loss.texts == "student" for loss in self.objective if loss.weight > 0):
            raise ValueError("every loss has `texts: student`: give one over the corpus, or swap the two caches")
        if self.evaluation is not None and self.evaluation.texts is not None and self.student.max_tokens < 4:
            raise ValueError("an evaluation needs student.max_tokens of 4 or more, for context and something to score")
        return self

    @model_validator(mode="after")
    def _fits_the_student(self) -> "TrainingConfig":
        kind = self.student.kind
        misfits = [loss.loss for loss in self.objective if loss.student != kind]
        if misfits:
            other = "encoder" if kind == "causal" else "causal"
            raise ValueError(
                f"{', '.join(misfits)} cannot teach a student of `kind: {kind}`: set student.kind to {other}, or take "
                f"{'a loss over tokens' if kind == 'causal' else '`loss: talas`'}"
            )
        if self.evaluation is not None and (self.evaluation.pairs is not None) != (kind == "encoder"):
            raise ValueError("an evaluation of a causal student has `texts`, one of an encoder has `pairs`")
        return self
