"""The settings of `stillroom train`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from schemas.bounds import (
    MOST_LAYERS,
    AnyPath,
    BatchSize,
    Devices,
    Epochs,
    Factor,
    LearningRate,
    LocalPath,
    MaxTokens,
    ModelName,
    Name,
    Norm,
    Samples,
    Seed,
    Share,
    Steps,
    Threads,
    Workers,
    require_bounded,
)
from schemas.cache.kinds.pooled import Pooling
from schemas.configs.conversations import ConversationsConfig
from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.registry import LOSSES, LossConfig
from schemas.strict import Strict


class TeacherCache(Strict):
    """The cache of one of several teachers, and what it counts for."""

    path: AnyPath
    """The cache's folder, or its URL."""
    weight: Annotated[float, Field(ge=1e-9, le=1)]
    """Factor of the whole objective over this teacher; those of all teachers sum to 1."""


Caches = Annotated[
    Annotated[AnyPath, Tag("one")]
    | Annotated[list[AnyPath], Field(min_length=1, max_length=100), Tag("several")]
    | Annotated[list[TeacherCache], Field(min_length=1, max_length=16), Tag("teachers")],
    Discriminator(lambda value: _spelling(value)),
]


def _spelling(value: Any) -> str:
    """How `cache` is given."""
    if not isinstance(value, list):
        return "one"
    return "teachers" if any(isinstance(item, dict | TeacherCache) for item in value) else "several"


KeptLayer = Annotated[int, Field(ge=0, lt=MOST_LAYERS)]


class AdapterConfig(Strict):
    """Small matrices that are trained in place of the model's own weights: LoRA (arXiv 2106.09685) or DoRA (arXiv
    2402.09353), by PEFT."""

    kind: Literal["lora", "dora"] = "lora"
    """dora also learns the length of each row of weights."""
    rank: Annotated[int, Field(ge=1, le=8192)] = 16
    """Inner width of the matrices."""
    alpha: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """What they compute is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On what goes into them."""
    targets: Annotated[list[Name], Field(min_length=1, max_length=1_000)] | None = None
    """Last names of linear layers, as q_proj; left out, all but the head, which losses read and no adapter changes."""


class StudentConfig(Strict):
    """The model that is trained: a folder, a hub id, or an architecture that starts from random weights."""

    kind: Literal["causal", "encoder"] = "causal"
    """A language model by AutoModelForCausalLM, or a sentence encoder by AutoModel."""
    model: ModelName | None = None
    """A finished run's folder, a model folder, or a hub id to start from."""
    keep_layers: Annotated[list[KeptLayer], Field(min_length=1, max_length=MOST_LAYERS)] | None = None
    """Start from only these of the model's layers, counted from 0: [0, 1, 2, 9] makes a student of four."""
    adapter: AdapterConfig | None = None
    """Train an adapter of `model`, whose own weights stay; {} does so with the defaults. A finished run holds it in
    adapter/, and merged with the model in model/."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the weights are held, computed with and saved in. Of bfloat16 the optimiser keeps float32 master weights:
    gradients are summed and every update is made in float32, then rounded. A divided student's shares are the
    masters, and what is gathered of them is bfloat16. Under an adapter only the model's own weights are bfloat16."""
    revision: Name | None = None
    """Hub revision; ignored for a local folder."""
    architecture: dict[str, Any] | None = None
    """A transformers config with `model_type`; vocabulary and special tokens are the tokenizer's."""
    tokenizer: ModelName | None = None
    """Folder, hub id, or 'teacher' for the one kept in the cache; left out, the model's own."""
    trust_remote_code: bool = False
    """Run Python code that ships with the model."""
    max_tokens: MaxTokens = 1024
    """Longer samples are cut, and their teacher spans with them."""
    append_eos: bool = True
    """End every uncut sample with the end-of-sequence token; causal students. Conversations end as their template has
    it."""
    chat_template: Name | None = None
    """How the student reads conversations, instead of by its tokenizer's own chat template: a file of Jinja, `plain`
    for contents without one, or `teacher`. A tokenizer without a template, or the teacher's, takes these by itself."""
    template_arguments: dict[str, Any] = {}
    """What the chat template is given beside the messages."""
    pooling: Pooling = "mean"
    """An encoder's sentence embedding: mean over tokens, the first (cls), or the last."""
    normalise: bool = True
    """An encoder's embeddings have length 1; its losses learn only directions."""
    embeddings: Literal["teacher_pca"] | None = None
    """How an architecture's word embeddings start: from the principal components of the teacher's, which the cache
    must hold (teacher.keep_embeddings), or at random."""

    @field_validator("architecture", "template_arguments")
    @classmethod
    def _bounded(cls, free: dict[str, Any] | None, field: ValidationInfo) -> dict[str, Any] | None:
        require_bounded(free, str(field.field_name))
        return free

    @model_validator(mode="after")
    def _one_origin(self) -> "StudentConfig":
        if (self.model is None) == (self.architecture is None):
            raise ValueError("give exactly one of model, architecture")
        if self.architecture is not None and self.tokenizer is None:
            raise ValueError("an architecture has no tokenizer of its own: give `tokenizer`, e.g. 'teacher'")
        if self.keep_layers is not None and self.model is None:
            raise ValueError("`keep_layers` goes with `model`; an architecture says how many layers it has")
        if self.keep_layers is not None and self.keep_layers != sorted(set(self.keep_layers)):
            raise ValueError(f"keep_layers must rise, each layer once: {sorted(set(self.keep_layers))}")
        if self.adapter is not None and self.model is None:
            raise ValueError(
                "`adapter` goes with `model`: an architecture's random weights must learn; set adapter to null"
            )
        if self.embeddings is not None and (self.architecture is None or self.tokenizer != "teacher"):
            raise ValueError("`embeddings: teacher_pca` is for an architecture with `tokenizer: teacher`")
        return self


Decay = Annotated[float, Field(ge=0, lt=1)]


class SharpnessConfig(Strict):
    """Adaptive sharpness-aware minimisation around the optimiser (ASAM, arXiv 2102.11600): two passes per step."""

    rho: Annotated[float, Field(ge=1e-6, le=1_000)] = 0.05
    """Size of the perturbation, relative to the weights."""
    eta: Factor = 0.01
    """Added to every |w|, so that weights at 0 are perturbed too; 0 for TALAS (pytorch_optimizer 4.1.0)."""
    scale_biases: bool = False
    """Perturb biases by their size too (reference: sonho4ng/Teacher-Anchor-KD @ 1cd570f by pytorch_optimizer), or, as
    ASAM's authors do, as they are."""


class OptimizerConfig(Strict):
    """An optimiser of torch's, and the learning rate over the steps: warm-up, then a schedule."""

    name: Literal["adamw", "adam", "sgd", "adafactor"] = "adamw"
    """adafactor keeps a row and a column of numbers for each matrix; sgd keeps one momentum; adam and sgd add the decay
    to the gradient."""
    lr: LearningRate = 1e-3
    """Peak learning rate. Adafactor's is relative to the size of the weights."""
    min_lr: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Learning rate at the last step."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps spent warming up."""
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """From the peak to `min_lr` by half a cosine or a line; wsd (warm-up, stable, decay) stays at the peak until the
    last `cooldown` of the steps; constant stays there."""
    cooldown: Annotated[float, Field(ge=1e-6, le=1)] = 0.2
    """Share of the steps in which wsd decays."""
    cooldown_shape: Literal["linear", "cosine", "sqrt"] = "linear"
    """How wsd decays; sqrt: by the square root of the share that is done (arXiv 2405.18392)."""
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    """Decays of AdamW's and Adam's moments; the first is SGD's momentum."""
    eps: Annotated[float, Field(ge=1e-30, le=1)] = 1e-8
    """AdamW's and Adam's denominator floor."""
    weight_decay: Factor = 0.1
    """On matrices only; never on biases, norms or projections."""
    clip: Norm | None = 1.0
    """Largest global gradient norm; null switches clipping off."""
    decay: Literal["matrices", "all"] = "matrices"
    """What of the student decays; all: biases and norms too (reference: sonho4ng/Teacher-Anchor-KD @ 1cd570f)."""
    sharpness: SharpnessConfig | None = None
    """Take the gradient at the worst weights nearby; {} does so with the defaults."""

    @model_validator(mode="after")
    def _decays(self) -> "OptimizerConfig":
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr ({self.min_lr:g}) is above lr ({self.lr:g})")
        if self.schedule == "constant" and self.min_lr > 0:
            raise ValueError("`schedule: constant` never comes to a min_lr: leave it out, or take another schedule")
        if self.schedule == "wsd" and self.warmup + self.cooldown > 1:
            raise ValueError(f"warmup ({self.warmup:g}) and cooldown ({self.cooldown:g}) are more than all steps")
        return self

    @model_validator(mode="after")
    def _has_its_settings(self) -> "OptimizerConfig":
        owners = {"betas": "adamw, adam, sgd", "eps": "adamw, adam", "cooldown": "wsd", "cooldown_shape": "wsd"}
        for setting, owner in owners.items():
            changed = getattr(self, setting) != type(self).model_fields[setting].default
            if changed and not {self.name, self.schedule} & set(owner.split(", ")):
                raise ValueError(f"only {owner} has `{setting}`: leave it out")
        return self


class EvaluationConfig(Strict):
    """Held-out material that is measured while training: bits per byte of texts or of conversations' answers, or how
    sentence pairs rank."""

    texts: LocalPath | None = None
    """For causal students: a file of records of any kind that `corpus.files` may be, or of plain text, a text per
    line."""
    pairs: LocalPath | None = None
    """For encoders: sentences that people scored, as `stillroom evaluate --pairs` reads them."""
    field: Name = "text"
    """Field of a record that holds the text; a plain text has none."""
    conversations: ConversationsConfig | None = None
    """The records of `texts` are conversations, which the student reads in its own chat template; of their targets the
    contents are scored, and reasoning and tool calls are context."""
    every: Steps = 100
    """Steps between two evaluations; the last step is always one."""
    limit: Samples | None = None
    """Use only the first N texts, conversations or pairs."""
    metric: Name | None = None
    """What is measured; left out, bits per byte of texts and conversations, and Spearman's correlation of pairs."""

    @model_validator(mode="after")
    def _one_kind(self) -> "EvaluationConfig":
        if (self.texts is None) == (self.pairs is None):
            raise ValueError("give exactly one of texts, pairs")
        if self.conversations is not None and self.texts is None:
            raise ValueError("`conversations` says how the records of `texts` are read: give `texts`")
        return self


class TrainingConfig(Strict):
    """One student run over a teacher's states."""

    cache: Caches
    """The cache folder that `stillroom extract` wrote, or its URL; or a list of such folders, of one teacher and with
    the same layers and kinds, whose samples together are the corpus; or a list of `{path, weight}`, one per teacher:
    the objective is then that over each of them, weighted, of the samples that all of them hold."""
    student_cache: AnyPath | None = None
    """A cache of texts that the student wrote (`stillroom generate`), of the same teacher."""
    output: LocalPath
    """The run's folder: model, config, metrics, checkpoints."""
    student: StudentConfig
    objective: Annotated[list[LossConfig], Field(min_length=1, max_length=100)] = [CrossEntropyConfig()]
    """Weighted losses; their sum is minimised."""
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: Seed = 0
    """Initial weights, shuffling and dropout."""
    steps: Steps | None = None
    """Optimiser steps."""
    epochs: Epochs | None = None
    """Passes over the cache, instead of `steps`."""
    batch_size: BatchSize = 16
    """Samples of one forward pass, over all devices together."""
    accumulation: BatchSize = 1
    """Forward passes of one optimiser step."""
    order: Literal["length", "random"] = "length"
    """Which samples share a batch, drawn anew in every epoch: those of similar length, which hardly need padding, or
    any. Runs that began without this setting go on in random order."""
    packing: Literal["auto", "always", "never"] = "auto"
    """Run a causal student over the tokens of a batch without its padding, which changes nothing but rounding; auto
    does so where padding is a tenth or more and the model can. Runs that began without this setting go on padded."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Autocast; auto is bfloat16 on a GPU that has it and for a student whose dtype it is, else float32."""
    gradient_checkpointing: bool = False
    """Compute each of the student's layers again in the backward pass instead of keeping what it computed: memory for
    about a third more time. It changes no gradient, so a run may go on with another setting."""
    compile: bool = False
    """Compile the student's layers (torch.compile): fewer and larger kernels on a GPU, after some seconds to minutes of
    compiling. Numbers differ by rounding, also between a run that was interrupted and one that was not."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one."""
    devices: Devices = 1
    """GPUs of this machine, or processes on its CPU, that train together: each takes its share of every batch. Samples
    come in the order of one device and losses agree to rounding, so a run may go on with more devices or fewer. Under
    torchrun leave it out."""
    sharding: Literal["none", "full"] = "none"
    """full divides a causal student's weights, gradients and optimiser state among the devices (FSDP2), for students
    that do not fit on one: 16 bytes per weight with AdamW, float32 or bfloat16, over the number of devices; below an
    adapter 4 or 2. It costs two more passes of the weights between devices per forward pass, in the student's dtype. A
    run may go on with the other setting."""
    threads: Threads | None = None
    """CPU threads; left out, torch decides."""
    loader_workers: Workers = 1
    """Threads that read and align ahead; 0 reads in line."""
    keep_tokens: bool = True
    """Keep the student's tokens of the cache's texts, some 12 bytes per token, for later epochs and for other runs with
    this tokenizer. It saves time and changes nothing."""
    tokens_folder: LocalPath | None = None
    """Where they are kept; left out, in CACHE.tokens beside the cache, of several the first."""
    checkpoint_every: Steps = 500
    """Steps between checkpoints: the most that a crash can cost."""
    keep_checkpoints: Steps = 2
    """Older checkpoints are removed. With two, one that is damaged costs no run."""
    log_every: Steps = 10
    """Steps between two lines of the metrics file."""
    min_coverage: Share = 0.5
    """Where a loss reads the teacher: training refuses below this share of response characters covered by aligned
    spans."""
    min_agreement: Share = 0.1
    """Where a loss reads the teacher: training refuses below this number of aligned spans per token of the side
    that has fewer."""
    evaluation: EvaluationConfig | None = None

    @property
    def caches(self) -> tuple[Path, ...]:
        """All that `cache` names."""
        listed = self.cache if isinstance(self.cache, list) else [self.cache]
        return tuple(each.path if isinstance(each, TeacherCache) else each for each in listed)

    @property
    def weights(self) -> tuple[float, ...]:
        """Those of several teachers, of each of `caches`; of caches that are read as one, none."""
        listed = self.cache if isinstance(self.cache, list) else []
        return tuple(each.weight for each in listed if isinstance(each, TeacherCache))

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps, epochs")
        if all(loss.weight == 0 for loss in self.objective):
            raise ValueError("every loss of the objective has weight 0: there is nothing to minimise")
        wanted = any(loss.texts == "student" for loss in self.objective if loss.weight > 0)
        if self.tokens_folder is not None and not self.keep_tokens:
            raise ValueError("`tokens_folder` is where tokens are kept: leave it out, or set keep_tokens to true")
        if wanted != (self.student_cache is not None):
            raise ValueError("`student_cache` goes with a loss that has `texts: student`, and such a loss needs it")
        if all(loss.texts == "student" for loss in self.objective if loss.weight > 0):
            raise ValueError("every loss has `texts: student`: give one over the corpus, or swap the two caches")
        if self.weights and abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(
                f"the weights of `cache` sum to {sum(self.weights):g}, and must sum to 1, because the objective counts "
                "once over all teachers; `objective` has weights of its own"
            )
        if len(self.weights) > 1 and self.student_cache is not None:
            raise ValueError("`student_cache` is of one teacher: name one in `cache`")
        if self.evaluation is not None and self.evaluation.texts is not None and self.student.max_tokens < 4:
            raise ValueError("an evaluation needs student.max_tokens of 4 or more: context, and something to score")
        return self

    @model_validator(mode="after")
    def _fits_the_student(self) -> "TrainingConfig":
        kind = self.student.kind
        misfits = [loss.name for loss in self.objective if loss.student != kind]
        if misfits:
            other = "encoder" if kind == "causal" else "causal"
            fitting = ", ".join(name for name, loss in LOSSES.items() if loss.student == kind)
            raise ValueError(
                f"{', '.join(misfits)} cannot teach a student of `kind: {kind}`: set student.kind to {other}, or take "
                f"a loss for it: {fitting}"
            )
        if self.sharding == "full" and kind == "encoder":
            raise ValueError("`sharding: full` is for causal students; set it to none")
        if self.sharding == "full" and self.optimizer.name == "adafactor":
            raise ValueError("adafactor keeps rows and columns of whole matrices: set sharding to none")
        if self.student.dtype == "bfloat16":
            self._require_bfloat16()
        held_out = self.evaluation
        if held_out and held_out.metric is None and (held_out.pairs is not None) != (kind == "encoder"):
            raise ValueError("an evaluation of a causal student has `texts`, one of an encoder has `pairs`")
        return self

    def _require_bfloat16(self) -> None:
        if self.precision == "float32":
            raise ValueError("a student in bfloat16 computes in it: set precision to auto, or student.dtype to float32")
        if self.optimizer.sharpness is not None:
            raise ValueError(
                "sharpness moves weights by less than bfloat16 can tell: set optimizer.sharpness to null, or "
                "student.dtype to float32"
            )
