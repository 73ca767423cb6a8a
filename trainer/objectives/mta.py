"""MTA, multi-granular trajectory alignment (arXiv 2605.01374): words at the lower key layers, phrases at the upper.

Costs, beyond CE and for each key layer: a T x T and an S x S matrix of token scores per sample (forward only), a K x K
matrix of cosines per sample, and one [tokens, d_S] x [d_S, d_T] product for the projection.

Decisions where the paper is silent:
- Token weights are detached on both sides (as in the authors' code): the student moves its states, not the weights.
- A single token attends to nothing but itself; its weight is 1.
- L_Hid by tokens takes the tokens in the layer's own spans; by words, all words of the scope at every key layer, phrase
  layers too. A word weighs as much as its teacher tokens together.
- `normalise: batch` is for L_DSA, over the samples of one forward pass: with gradient accumulation it is a mean of
  such means. L_Hid is a mean of sample means in the authors' code too.

Shapes: B samples, S student tokens, T teacher tokens, X tokens of either side, K spans; d_S and d_T wide, as suffixes d
and e.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from schemas.configs.losses.mta import MTAConfig
from schemas.errors import RunError
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import SameTokenPositions, Spans, SpanSet
from trainer.numerics.geometry import ZERO_NORM, at_least_float32, cosine_distance, geometry_sums, ratio
from trainer.numerics.span_pooling import centres_of_mass, span_mass, within_span
from trainer.objectives.context import LossContext
from trainer.objectives.loss import Loss, Request, Term
from trainer.objectives.parts.layer_pairs import layer_pairs
from trainer.objectives.parts.projection import project, projection_biases, projection_groups, projection_matrix
from trainer.objectives.parts.requirements import require_hidden, require_phrases, require_same_tokenizer
from trainer.student.states import StudentHidden, StudentStates


@torch.no_grad()
def token_weights(hidden_BXd: Tensor, mask_BX: Tensor) -> Tensor:
    """How much the tokens of a sample attend to each one by their states, [B, X], 1 in sum over a sample (eq. 5-7):

        H^_t = H_t / std(H_t),  a_{u->t} = softmax over t != u of (H^_u . H^_t / sqrt(d)),  w_t = mean_u a_{u->t}

    std is torch's (unbiased). Padding neither attends nor is attended to. A state without variance counts as 0.
    """
    # torch's own `var` takes twenty times as long over a last axis.
    centred_BXd = hidden_BXd - hidden_BXd.mean(-1, keepdim=True)
    variance_BX1 = centred_BXd.square_().sum(-1, keepdim=True).div_(hidden_BXd.shape[-1] - 1)
    varied_BX1 = variance_BX1 > ZERO_NORM
    scaled_BXd = hidden_BXd * torch.where(varied_BX1, torch.where(varied_BX1, variance_BX1, 1.0).rsqrt(), 0.0)
    score_BXX = (scaled_BXd @ scaled_BXd.mT).mul_(hidden_BXd.shape[-1] ** -0.5)
    # The least finite number, not -inf: a row without any other token must not become NaN.
    least = torch.finfo(score_BXX.dtype).min
    score_BXX.masked_fill_(~mask_BX[:, None, :], least).diagonal(dim1=1, dim2=2).fill_(least)
    real_BX = mask_BX.to(score_BXX.dtype)
    tokens_B1 = real_BX.sum(1, keepdim=True)
    weight_BX = ((real_BX / tokens_B1.clamp_min(1))[:, None, :] @ score_BXX.softmax(-1)).squeeze(1)
    return torch.where(tokens_B1 > 1, weight_BX * real_BX, real_BX)


def uniform_weights(mask_BX: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / (number of tokens) for every token of a sample, [B, X]."""
    real_BX = mask_BX.to(dtype)
    return real_BX / real_BX.sum(1, keepdim=True).clamp_min(1)


def weighted_mean(numerator_B: Tensor, denominator_B: Tensor, over_batch: bool) -> Tensor:
    """The sum of the samples' weighted means; or, `over_batch`, B times the weighted mean of the whole batch."""
    if over_batch:
        return len(numerator_B) * ratio(numerator_B.sum(), denominator_B.sum())
    return ratio(numerator_B, denominator_B).sum()


def structure_loss(student_BKd: Tensor, teacher_BKe: Tensor, weight_BK: Tensor, over_batch: bool = False) -> Tensor:
    """L_DSA^(l) = sum_{i != j} omega_i omega_j (d(U^S_i, U^S_j) - d(U^T_i, U^T_j))^2 / sum_{i != j} omega_i omega_j,
    pairs within a sample, omega_k = `weight_BK` normalised to 1 over a sample's spans; reduced by `weighted_mean`."""
    omega_BK = ratio(weight_BK, weight_BK.sum(1, keepdim=True))
    return weighted_mean(*geometry_sums(student_BKd, teacher_BKe, omega_BK), over_batch)


def hidden_loss(
    student_BXd: Tensor,
    teacher_BXe: Tensor,
    weight_BX: Tensor,
    projection_de: Tensor,
    bias_e: Tensor | None = None,
) -> Tensor:
    """L_Hid^(l) = sum_t w^T_t d(H^S_t W_l, H^T_t) / sum_t w^T_t over paired tokens or words, summed over samples."""
    distance_BX = cosine_distance(project(student_BXd, projection_de, bias_e), teacher_BXe)
    return weighted_mean((weight_BX * distance_BX).sum(1), weight_BX.sum(1), over_batch=False)


@dataclass(frozen=True)
class KeyLayer:
    """A student layer, the teacher layer it follows, and the spans at which they are compared."""

    student: int
    teacher: int
    spans: Spans


class MTA(Loss):
    """dsa * L_DSA + hid * L_Hid, each a mean over the samples of the step."""

    narrower = "set mta.scope: response and mta.token_weights: uniform"

    def __init__(self, config: MTAConfig, context: LossContext):
        super().__init__(config)
        self.config, self.divisor = config, "sample"
        self.key_layers = key_layers(config, context)
        self.words = Spans("word", config.scope)
        self.by_token = config.hid_pairs == "token" or (config.hid_pairs == "auto" and context.same_tokenizer)
        self.over_batch = config.normalise == "batch"
        if config.hid > 0 and config.hid_pairs == "token":
            require_same_tokenizer(context, "mta's hid_pairs: token", "Set hid_pairs: word, or auto")
        if config.pooling_weights == "teacher":
            require_same_tokenizer(context, "mta's pooling_weights: teacher", "Set pooling_weights: student")
        width = context.manifest.teacher.hidden_size
        layers = self.key_layers if config.hid > 0 else ()
        self.projections = nn.ParameterDict(
            {str(key.student): projection_matrix(context.student.width, width, config.projection) for key in layers}
        )
        self.biases = projection_biases(self.projections, context.student.width, width, config.projection)
        self.requests = self._requests(context)

    def _requests(self, context: LossContext) -> frozenset[Request]:
        by_word = self.config.hid > 0 and not self.by_token
        spans = {key.spans for key in self.key_layers} if self.config.dsa > 0 or not by_word else set[Spans]()
        if any(choice.level == "phrase" for choice in spans):
            require_phrases(context, "mta", "set mta.word_layers to the number of key layers")
        requests: set[Request] = {StudentHidden(key.student) for key in self.key_layers}
        # Attention between states looks at every token, wherever the spans are.
        alone = self.config.scope == "response" and self.config.token_weights == "uniform"
        teachers = (key.teacher for key in self.key_layers)
        requests |= require_hidden(context, teachers, "mta", "targets" if alone else "all")
        requests |= spans | ({self.words} if by_word else set())
        if (self.config.hid > 0 and self.by_token) or self.config.pooling_weights == "teacher":
            requests.add(SameTokenPositions())
        return frozenset(requests)

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """`dsa`, a mean over key layers, and `hid`, their sum or mean; both summed over samples (arXiv 2605.01374)."""
        dsa, hid = [], []
        for key in self.key_layers:
            view = _View(key, student, batch, self.config)
            if self.config.dsa > 0:
                dsa.append(self._structure(view, batch[key.spans]))
            if self.config.hid > 0:
                hid.append(
                    self._hidden_by_token(view, batch, key) if self.by_token else self._hidden_by_word(view, batch, key)
                )
        terms = {}
        if dsa:
            terms["dsa"] = Term(torch.stack(dsa).mean(), self.config.dsa)
        if hid:
            total = torch.stack(hid)
            total = total.sum() if self.config.hid_reduction == "sum" else total.mean()
            terms["hid"] = Term(total, self.config.hid)
        return terms

    def _structure(self, view: "_View", spans: SpanSet) -> Tensor:
        student_BKd, teacher_BKe, weight_BK = view.pool(spans)
        return structure_loss(student_BKd, teacher_BKe, weight_BK, self.over_batch)

    def _hidden_by_token(self, view: "_View", batch: Batch, key: KeyLayer) -> Tensor:
        spans, position_BS = batch[key.spans], batch[SameTokenPositions()]
        weight_BS = spans.of_student.inside_BX * at_student(view.teacher_weight_BT, position_BS)
        first_B1 = view.teacher_BTe.shape[1] * torch.arange(len(position_BS), device=position_BS.device)[:, None]
        teacher_BSe = view.teacher_BTe.flatten(0, 1)[first_B1 + position_BS.clamp_min(0)]
        # Outside of spans a teacher may have no row: nothing there may be learnt, nor turn what is learnt into NaN.
        teacher_BSe.masked_fill_(weight_BS[..., None] <= 0, 0.0)
        return hidden_loss(view.student_BSd, teacher_BSe, weight_BS, *self._projection(key))

    def _hidden_by_word(self, view: "_View", batch: Batch, key: KeyLayer) -> Tensor:
        student_BKd, teacher_BKe, weight_BK = view.pool(batch[self.words])
        return hidden_loss(student_BKd, teacher_BKe, weight_BK, *self._projection(key))

    def _projection(self, key: KeyLayer) -> tuple[Tensor, Tensor | None]:
        name = str(key.student)
        return self.projections[name], self.biases.get(name)

    def compares_samples(self) -> str | None:
        """L_DSA does where it is a mean over the batch, in which each sample weighs by its spans."""
        return "mta.normalise: batch" if self.over_batch and self.config.dsa > 0 else None

    def parameter_groups(self) -> list[dict[str, object]]:
        """One group: the projections W_l and their biases."""
        return projection_groups([*self.projections.values(), *self.biases.values()], self.config.projection)


class _View:
    """One key layer of one batch: the states of both sides and the token weights by which spans are pooled."""

    def __init__(self, key: KeyLayer, student: StudentStates, batch: Batch, config: MTAConfig):
        self.batch, self.config = batch, config
        self.student_BSd = at_least_float32(student[StudentHidden(key.student)])
        self.teacher_BTe = batch[TeacherHidden(key.teacher)].detach()
        self.teacher_weight_BT = self._weights(self.teacher_BTe, batch.teacher_mask_BT)

    def _weights(self, hidden_BXd: Tensor, mask_BX: Tensor) -> Tensor:
        if self.config.token_weights == "uniform":
            return uniform_weights(mask_BX, hidden_BXd.dtype)
        return token_weights(hidden_BXd, mask_BX)

    @cached_property
    def student_weight_BS(self) -> Tensor:
        """Whatever pools the student's spans; not computed where nothing is pooled."""
        if self.config.pooling_weights == "teacher":
            return at_student(self.teacher_weight_BT, self.batch[SameTokenPositions()])
        return self._weights(self.student_BSd, self.batch.mask_BS)

    def pool(self, spans: SpanSet) -> tuple[Tensor, Tensor, Tensor]:
        """U^S [B, K, d_S], U^T [B, K, d_T] and sum of w^T over each span [B, K]."""
        of_student, of_teacher = spans.of_student, spans.of_teacher
        student_BKd = centres_of_mass(of_student, within_span(of_student, self.student_weight_BS), self.student_BSd)
        teacher_BKe = centres_of_mass(of_teacher, within_span(of_teacher, self.teacher_weight_BT), self.teacher_BTe)
        return student_BKd, teacher_BKe, span_mass(of_teacher, self.teacher_weight_BT)


def at_student(teacher_BT: Tensor, teacher_position_BS: Tensor) -> Tensor:
    """One value per teacher token, gathered at the student's tokens: [B, S]; 0 where a token has no counterpart."""
    gathered_BS = teacher_BT.gather(1, teacher_position_BS.clamp_min(0))
    return torch.where(teacher_position_BS >= 0, gathered_BS, 0.0)


def key_layers(config: MTAConfig, context: LossContext) -> tuple[KeyLayer, ...]:
    """The key layers from the lowest up: `word_layers` of them, or a third, at word level, the others at phrase level.

    Raises ConfigError for a layer that does not exist and RunError for counts or an order that do not fit.
    """
    pairs = layer_pairs(config.student_layers, config.teacher_layers, context, "mta")
    num_words = len(pairs) // 3 if config.word_layers is None else config.word_layers
    if num_words > len(pairs):
        raise RunError(f"mta.word_layers: {num_words} of only {len(pairs)} key layers; give at most {len(pairs)}")
    word = Spans("word", config.scope)
    phrase = Spans("phrase", config.scope, phrases=tuple(sorted(set(config.phrases))))
    return tuple(
        KeyLayer(student, teacher, word if i < num_words else phrase) for i, (student, teacher) in enumerate(pairs)
    )


LOSS = MTA
