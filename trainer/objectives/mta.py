"""MTA, multi-granular trajectory alignment (arXiv 2605.01374): words at the lower key layers, phrases at the upper.

Costs, beyond CE and for each key layer: a T x T and an S x S matrix of token scores a sample (forward only), a K x K
matrix of cosines a sample, and one [tokens, d_S] x [d_S, d_T] product for the projection.

Decisions where the paper is silent:
- Token weights are detached on both sides (as in the authors' code): the student moves its states, not the weights.
- A single token attends to nothing but itself; its weight is 1.
- L_Hid by tokens takes the tokens in the layer's own spans; by words, all words of the scope at every key layer, phrase
  layers too. A word weighs as much as its teacher tokens together.
- `normalise: batch` is over the samples of one forward pass: with gradient accumulation it is a mean of such means.

Shapes: B samples, S student tokens, T teacher tokens, X tokens of either side, K spans; d_S and d_T wide, as suffixes d
and e.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from schemas.configs.losses import MTAConfig
from schemas.errors import RunError
from schemas.layers import matching_layer, resolve_layer, resolve_layers
from trainer.data.batch import Batch, Needs, SpanRequest, SpanSet, StudentStates
from trainer.numerics.geometry import ZERO_NORM, at_least_float32, cosine_distance, geometry_sums, ratio
from trainer.numerics.span_pooling import centres_of_mass, membership, span_mass, within_span
from trainer.objectives.loss import Loss, Pair, Term
from trainer.objectives.parts.projection import projection_groups, projection_matrix
from trainer.objectives.parts.requirements import require_hidden, require_phrases, require_same_tokenizer


@torch.no_grad()
def token_weights(hidden_BXd: Tensor, mask_BX: Tensor) -> Tensor:
    """How much the tokens of a sample attend to each one by their states, [B, X], 1 in sum over a sample (eq. 5-7):

        H^_t = H_t / std(H_t),  a_{u->t} = softmax over t != u of (H^_u . H^_t / sqrt(d)),  w_t = mean_u a_{u->t}

    std is torch's (unbiased). Padding neither attends nor is attended to. A state without variance counts as 0.
    """
    variance_BX1 = hidden_BXd.var(-1, keepdim=True)
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
    student_BXd: Tensor, teacher_BXe: Tensor, weight_BX: Tensor, projection_de: Tensor, over_batch: bool = False
) -> Tensor:
    """L_Hid^(l) = sum_t w^T_t d(H^S_t W_l, H^T_t) / sum_t w^T_t over paired tokens or words, by `weighted_mean`."""
    distance_BX = cosine_distance(student_BXd @ projection_de, teacher_BXe)
    return weighted_mean((weight_BX * distance_BX).sum(1), weight_BX.sum(1), over_batch)


@dataclass(frozen=True)
class KeyLayer:
    """A student layer, the teacher layer it follows, and the spans at which they are compared."""

    student: int
    teacher: int
    spans: SpanRequest


class MTA(Loss):
    """dsa * L_DSA + hid * L_Hid, each a mean over the samples of the step."""

    def __init__(self, config: MTAConfig, pair: Pair):
        super().__init__(config)
        self.name, self.config = config.loss, config
        self.key_layers = key_layers(config, pair)
        self.words = SpanRequest("word", config.scope)
        self.by_token = config.hid_pairs == "token" or (config.hid_pairs == "auto" and pair.same_tokenizer)
        self.over_batch = config.normalise == "batch"
        if config.hid > 0 and config.hid_pairs == "token":
            require_same_tokenizer(pair, "mta's hid_pairs: token", "Set hid_pairs: word, or auto")
        if config.pooling_weights == "teacher":
            require_same_tokenizer(pair, "mta's pooling_weights: teacher", "Set pooling_weights: student")
        width = pair.manifest.teacher.hidden_size
        layers = self.key_layers if config.hid > 0 else ()
        self.projections = nn.ParameterDict(
            {str(key.student): projection_matrix(pair.student_width, width, config.projection) for key in layers}
        )
        by_word = config.hid > 0 and not self.by_token
        reads_layer_spans = config.dsa > 0 or not by_word
        if reads_layer_spans and any(key.spans.unit == "phrase" for key in self.key_layers):
            require_phrases(pair, "mta", "set mta.word_layers to the number of key layers")
        self.needs = Needs(
            teacher_hidden=require_hidden(pair, (key.teacher for key in self.key_layers), "mta"),
            student_hidden=frozenset(key.student for key in self.key_layers),
            spans=frozenset(key.spans for key in self.key_layers if reads_layer_spans)
            | ({self.words} if by_word else set()),
            pairs=(config.hid > 0 and self.by_token) or config.pooling_weights == "teacher",
        )

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        dsa, hid = [], []
        for key in self.key_layers:
            view = _View(key, student, batch, self.config)
            if self.config.dsa > 0:
                dsa.append(self._structure(view, batch.spans[key.spans]))
            if self.config.hid > 0:
                projection = self.projections[str(key.student)]
                compare = self._hidden_by_token if self.by_token else self._hidden_by_word
                hid.append(compare(view, batch, key, projection))
        terms = {}
        if dsa:
            terms["dsa"] = Term(torch.stack(dsa).mean(), "sample", self.config.dsa)
        if hid:
            total = torch.stack(hid)
            total = total.sum() if self.config.hid_reduction == "sum" else total.mean()
            terms["hid"] = Term(total, "sample", self.config.hid)
        return terms

    def _structure(self, view: "_View", spans: SpanSet) -> Tensor:
        student_BKd, teacher_BKe, weight_BK = view.pool(spans)
        return structure_loss(student_BKd, teacher_BKe, weight_BK, self.over_batch)

    def _hidden_by_token(self, view: "_View", batch: Batch, key: KeyLayer, projection_de: Tensor) -> Tensor:
        spans = batch.spans[key.spans]
        assert batch.pair_BS is not None  # asked for by `needs`
        in_span_BS = membership(spans.student_BS, spans.mask_BK).inside_BX
        weight_BS = in_span_BS * at_student(view.teacher_weight_BT, batch.pair_BS)
        index_BSe = batch.pair_BS.clamp_min(0)[:, :, None].expand(-1, -1, view.teacher_BTe.shape[-1])
        teacher_BSe = view.teacher_BTe.gather(1, index_BSe)
        return hidden_loss(view.student_BSd, teacher_BSe, weight_BS, projection_de, self.over_batch)

    def _hidden_by_word(self, view: "_View", batch: Batch, key: KeyLayer, projection_de: Tensor) -> Tensor:
        student_BKd, teacher_BKe, weight_BK = view.pool(batch.spans[self.words])
        return hidden_loss(student_BKd, teacher_BKe, weight_BK, projection_de, self.over_batch)

    def parameter_groups(self) -> list[dict[str, object]]:
        return projection_groups(self.projections.values(), self.config.projection)


class _View:
    """One key layer of one batch: the states of both sides and the token weights by which spans are pooled."""

    def __init__(self, key: KeyLayer, student: StudentStates, batch: Batch, config: MTAConfig):
        self.batch, self.config = batch, config
        self.student_BSd = at_least_float32(student.hidden[key.student])
        self.teacher_BTe = batch.teacher_hidden[key.teacher].detach()
        self.teacher_weight_BT = self._weights(self.teacher_BTe, batch.teacher_mask_BT)

    def _weights(self, hidden_BXd: Tensor, mask_BX: Tensor) -> Tensor:
        if self.config.token_weights == "uniform":
            return uniform_weights(mask_BX, hidden_BXd.dtype)
        return token_weights(hidden_BXd, mask_BX)

    @cached_property
    def student_weight_BS(self) -> Tensor:
        """Whatever pools the student's spans; not computed where nothing is pooled."""
        if self.config.pooling_weights == "teacher":
            assert self.batch.pair_BS is not None  # asked for by `needs`
            return at_student(self.teacher_weight_BT, self.batch.pair_BS)
        return self._weights(self.student_BSd, self.batch.mask_BS)

    def pool(self, spans: SpanSet) -> tuple[Tensor, Tensor, Tensor]:
        """U^S [B, K, d_S], U^T [B, K, d_T] and sum of w^T over each span [B, K]."""
        of_student = membership(spans.student_BS, spans.mask_BK)
        student_BKd = centres_of_mass(of_student, within_span(of_student, self.student_weight_BS), self.student_BSd)
        of_teacher = membership(spans.teacher_BT, spans.mask_BK)
        teacher_BKe = centres_of_mass(of_teacher, within_span(of_teacher, self.teacher_weight_BT), self.teacher_BTe)
        return student_BKd, teacher_BKe, span_mass(of_teacher, self.teacher_weight_BT)


def at_student(teacher_BT: Tensor, pair_BS: Tensor) -> Tensor:
    """A number a teacher token, read at the student's tokens: [B, S]; 0 where a token has no counterpart."""
    return torch.where(pair_BS >= 0, teacher_BT.gather(1, pair_BS.clamp_min(0)), 0.0)


def key_layers(config: MTAConfig, pair: Pair) -> tuple[KeyLayer, ...]:
    """The key layers from the lowest up: `word_layers` of them, or a third, at word level, the others at phrase level.

    Raises ConfigError for a layer that does not exist and RunError for counts or an order that do not fit.
    """
    num_teacher = pair.manifest.teacher.num_layers
    students = resolve_layers(config.student_layers, pair.student_layers, "mta.student_layers")
    if config.teacher_layers is None:
        teachers = [matching_layer(layer, pair.student_layers, num_teacher) for layer in students]
    else:
        teachers = [resolve_layer(layer, num_teacher, "mta.teacher_layers") for layer in config.teacher_layers]
    if len(teachers) != len(students):
        raise RunError(
            f"mta.teacher_layers: {len(teachers)} teacher layers for {len(students)} student layers "
            f"({', '.join(map(str, students))}); give one for each, or leave them out"
        )
    if teachers != sorted(teachers):
        raise RunError(
            f"mta.teacher_layers: {', '.join(map(str, teachers))} do not ascend as the student's layers do; sort them"
        )
    num_words = len(students) // 3 if config.word_layers is None else config.word_layers
    if num_words > len(students):
        raise RunError(f"mta.word_layers: {num_words} of only {len(students)} key layers; give at most {len(students)}")
    word = SpanRequest("word", config.scope)
    phrase = SpanRequest("phrase", config.scope, phrases=tuple(sorted(set(config.phrases))))
    return tuple(
        KeyLayer(student, teacher, word if i < num_words else phrase)
        for i, (student, teacher) in enumerate(zip(students, teachers, strict=True))
    )
