"""SRA, span representation alignment (arXiv 2605.01205): aligned spans as centres of mass, for any two tokenizers.

Costs, beyond CE: one [tokens, d_S] x [d_S, d_T] product for the projection, a K x K matrix of cosines per sample, and
for span-KD, which costs most, one [spans, d_T] x [d_T, N] product with the shared part of the teacher's unembedding. Of
an encoded cache the unembedding is folded: it is multiplied with centres of coordinates, which are decoded where the
cosines of the final layer need states.

Decisions where the paper is silent:
- A span without any mass (underflow, `ignore_first`) is pooled as a plain mean, and its span weight is 0; at mass
  exponent 0 all spans weigh the same, those without mass too. A sample of which no span has mass adds nothing.
- Spans of several targets, the turns of a conversation, are one set: their masses sum to 1 together, all pairs count.
- Student span logits are pooled from the logits of the span's tokens, which cross-entropy needs as well. The head is
  linear and a span's shares sum to 1, so they are W_U C^S exactly. Of a student that soft-caps its logits they would be
  something else, so span-KD refuses it.

Shapes: B samples, S student tokens, T teacher tokens, X tokens of either side, K spans, P student tokens in spans,
R spans of all samples concatenated, V student vocabulary; d_S and d_T wide, as suffixes d and e.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.configs.losses.sra import SRAConfig
from schemas.errors import RunError
from schemas.layers import resolve_layer
from schemas.models.teacher_head import TeacherHead
from trainer.data.batch import Batch
from trainer.data.teacher_logits import TeacherLogits
from trainer.data.teacher_states import TeacherFinal, TeacherHidden, TeacherMass
from trainer.data.tied_tokens import Spans, SpanSet
from trainer.numerics.geometry import at_least_float32, cosine_distance, geometry_sums, ratio
from trainer.numerics.span_pooling import Members, centres_of_mass, span_mass, within_span, without_leading
from trainer.objectives.context import LossContext, final_decoder
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import Chunks
from trainer.objectives.kernels.forward_kl import forward_kl
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.objectives.loss import Carrier, Request, Term
from trainer.objectives.parts.projection import project, projection_biases, projection_groups, projection_matrix
from trainer.objectives.parts.requirements import (
    require_final,
    require_final_head,
    require_hidden,
    require_mass,
    require_phrases,
)
from trainer.student.logits import Logits
from trainer.student.states import StudentHidden, StudentLogits, StudentMass, StudentStates, StudentUnembedding


def relative_mass(mass_BK: Tensor, mask_BK: Tensor, exponent: float) -> Tensor:
    """m~_i = m_i^p / sum_j m_j^p over a sample's spans, [B, K]; 0 throughout where no span has mass."""
    raised_BK = torch.where(mask_BK, mass_BK.pow(exponent), 0.0)
    return ratio(raised_BK, raised_BK.sum(1, keepdim=True))


def span_cosine_loss(
    student_BKd: Tensor,
    teacher_BKe: Tensor,
    weight_BK: Tensor,
    projection_de: Tensor,
    bias_e: Tensor | None = None,
) -> Tensor:
    """L_cos = sum over samples of sum_i m~_i d(C^S_i P, C^T_i)."""
    return (weight_BK * cosine_distance(project(student_BKd, projection_de, bias_e), teacher_BKe)).sum()


def span_geometry_loss(student_BKd: Tensor, teacher_BKe: Tensor, weight_BK: Tensor) -> Tensor:
    """L_geo = sum over samples of sum_{i != j} pi_ij (cos(C^S_i, C^S_j) - cos(C^T_i, C^T_j))^2,
    pi_ij = m~_i m~_j / sum_{k != l} m~_k m~_l. A sample with fewer than two spans of weight adds 0."""
    return ratio(*geometry_sums(student_BKd, teacher_BKe, weight_BK)).sum()


def span_kd_loss(
    logits_BSV: Tensor | Logits,
    label_BS: Tensor,
    share_BS: Tensor,
    teacher_BKe: Tensor,
    mask_BK: Tensor,
    head: TeacherHead,
    columns: Columns,
    temperature: float,
    mean: bool = False,
    carried: CarriedCrossEntropy | None = None,
    weight: float = 1.0,
    whole: bool = True,
    chunks: Chunks | None = None,
    teacher_logits: TeacherLogits | None = None,
) -> Tensor:
    """L_span-KD = sum over samples of sum_i KL(softmax(z^T_i / tau) || softmax(z^S_i / tau)), shared vocabulary only.

    z^T_i = head(C^T_i), where `head` has the shared tokens alone. z^S_i = sum over tokens s of span i of share_s z^S_s,
    in the `columns` of the same tokens. `mean` divides a sample's sum by its number of spans. `weight`
    is that of the term, for what is `carried`; shares that are `whole` sum to 1 over a span.
    """
    row_BK = mask_BK.flatten().cumsum(0).view_as(mask_BK) - 1
    span_BS = label_BS.clamp_min(0)
    position_P = ((label_BS >= 0) & mask_BK.gather(1, span_BS)).flatten().nonzero().squeeze(1)
    row_P, order_P = row_BK.gather(1, span_BS).flatten()[position_P].sort(stable=True)
    position_P = position_P[order_P]
    teacher_Re, share_P = teacher_BKe[mask_BK], share_BS.flatten()[position_P]
    rows = Rows(position_P, row_P, share_P, num_rows=len(teacher_Re), whole=whole)
    spans_B1 = mask_BK.sum(1, keepdim=True) if mean else torch.ones_like(row_BK[:, :1])
    factor_R = (1.0 / spans_B1.clamp_min(1)).expand_as(mask_BK)[mask_BK]

    teacher = (teacher_logits or TeacherLogits())(head, teacher_Re, temperature)
    return forward_kl(logits_BSV, rows, columns, teacher, factor_R, temperature, carried, weight, chunks)


def chosen_spans(config: SRAConfig, context: LossContext) -> Spans:
    """The spans that `config` asks for, in the response. Raises RunError if it wants phrases and none were marked."""
    if config.spans == "aligned":
        return Spans("aligned", "response", max_spans=config.max_spans)
    if config.spans == "phrase":
        require_phrases(context, "sra", "set sra.spans to word or aligned")
        return Spans("phrase", "response", phrases=("noun", "verb"))
    return Spans("word", "response")


class SRA(Carrier):
    """cos * L_cos + geo * L_geo + span_kd * L_span-KD, each a mean over the samples of the step.

    `effective_spans`, 1 / sum m~^2, is only reported: how many spans the weights really rest on. One or two of hundreds
    mean that attention sinks hold the mass; see `ignore_first` and `mass_exponent`.
    """

    student_ids: Tensor | None
    basis_Kd: Tensor | None

    def __init__(self, config: SRAConfig, context: LossContext):
        super().__init__(config)
        self.config, self.divisor = config, "sample"
        teacher, layers = context.manifest.teacher, context.student.layers
        self.teacher_layer = resolve_layer(config.teacher_layer, teacher.num_layers, "sra.teacher_layer")
        self.student_layer = resolve_layer(config.student_layer, layers, "sra.student_layer")
        self.teacher_last, self.student_last = teacher.num_layers, layers
        self.aligns, self.carries = config.cos > 0 or config.geo > 0, config.span_kd > 0
        self.pairs = self._pairs(teacher.num_layers, layers)
        aligned = [(self.student_layer, self.teacher_layer), *self.pairs] if self.aligns else []
        self.of_student, self.of_teacher = ({pair[side] for pair in aligned} for side in (0, 1))
        self.student_layers = self.of_student | ({self.student_last} if self.carries else set())
        self.teacher_layers = self.of_teacher | ({self.teacher_last} if self.carries else set())
        self.exponent = 0.0 if config.span_weights == "equal" else config.mass_exponent
        self.spans = chosen_spans(config, context)
        self.requests = self._requests(context)
        # Final states may come as coordinates; their centres are then decoded for what else reads these states.
        decoder = final_decoder(context) if self.carries and self.teacher_last in self.of_teacher else None
        self.register_buffer("basis_Kd", None if decoder is None else decoder.basis_Kd, persistent=False)
        if config.cos > 0:
            self._draw_projections((context.student.width, teacher.hidden_size))
        if self.carries:
            self._restrict_to_shared_vocabulary(context)

    def _pairs(self, num_teacher: int, num_student: int) -> tuple[tuple[int, int], ...]:
        """The pairs of layers of L_cos."""
        if self.config.cos == 0:
            return ()
        if self.config.cos_layers is None:
            return ((self.student_layer, self.teacher_layer),)
        where = "sra.cos_layers"
        return tuple(
            (resolve_layer(student, num_student, where), resolve_layer(teacher, num_teacher, where))
            for student, teacher in self.config.cos_layers
        )

    def _draw_projections(self, widths: tuple[int, int]) -> None:
        """One for each pair of L_cos. That of the only pair has a name of its own in checkpoints."""
        config, names = self.config.projection, [str(number) for number in range(len(self.pairs))]
        if self.config.cos_layers is None:
            self.projection = projection_matrix(*widths, config)
        else:
            self.projections = nn.ParameterDict({name: projection_matrix(*widths, config) for name in names})
        self.biases = projection_biases(names, *widths, config)

    def _maps(self) -> list[tuple[Tensor, Tensor | None]]:
        """The projection of each pair of L_cos, and its bias."""
        matrices = [self.projection] if self.config.cos_layers is None else list(self.projections.values())
        return [(matrix, self.biases.get(str(number))) for number, matrix in enumerate(matrices)]

    def _requests(self, context: LossContext) -> frozenset[Request]:
        by_mass = self.config.pooling == "mass"
        student_mass, teacher_mass = (self.student_layers, self.teacher_layers) if by_mass else (set[int](), set[int]())
        if self.exponent > 0:
            teacher_mass = teacher_mass | self.of_teacher
        if 0 in student_mass:
            raise RunError(
                "sra: student layer 0 is the embeddings, which no attention makes: it has no token masses. "
                "Choose sra.student_layer from 1 up, or pooling: mean"
            )
        hidden = require_hidden(context, self.teacher_layers, "sra", "targets")
        self.of_layer: dict[int, TeacherHidden | TeacherFinal] = {request.layer: request for request in hidden}
        if self.carries:
            self.of_layer[self.teacher_last] = require_final(context, "sra", "targets")
        of_teacher = (*self.of_layer.values(), *require_mass(context, teacher_mass, "sra"))
        aligned = (StudentHidden(layer) for layer in self.of_student)
        masses = (StudentMass(layer) for layer in student_mass)
        head = [StudentUnembedding()] if self.carries and self.config.mass_floor > 0 else []
        return frozenset([self.spans, StudentLogits(), *of_teacher, *aligned, *masses, *head])

    def _restrict_to_shared_vocabulary(self, context: LossContext) -> None:
        """A head of the shared tokens alone, copied once; if the vocabularies are one, the teacher's head itself."""
        head = require_final_head(context, "sra's span_kd", "Set span_kd: 0")
        softcap = context.student.logits.softcap
        if softcap is not None:
            raise RunError(
                f"sra: the student soft-caps its logits at {softcap:g}, so a span centre's "
                "cannot be had from them. Set span_kd: 0, or final_logit_softcapping: null in the student's config"
            )
        student_ids, teacher_ids = context.vocabulary.student_ids, context.vocabulary.teacher_ids
        if len(student_ids) == 0:
            raise RunError("sra: student and teacher share no token, so span_kd has nothing to compare. Set span_kd: 0")
        whole = torch.arange(len(student_ids))
        self.register_buffer("student_ids", None if torch.equal(student_ids, whole) else student_ids, persistent=False)
        self.num_shared = len(student_ids)
        if len(head.weight_Vd) == self.num_shared and torch.equal(teacher_ids, whole):
            self.head = head
            return
        self.head = head.restricted(teacher_ids)

    def forward(
        self, student: StudentStates, batch: Batch, carried: CarriedCrossEntropy | None = None
    ) -> dict[str, Term]:
        """L_cos, L_geo and L_span-KD (arXiv 2605.01205), those of weight above 0, summed over samples.

        Beside the first two, `effective_spans` says how many carry a sample's weight, 1 / sum omega^2.
        """
        spans = batch[self.spans]
        # Alignment and span-KD mostly pool the same layers: each is pooled once.
        of_student, of_teacher = spans.of_student, spans.of_teacher
        shares = {layer: self._student_shares(of_student, student, batch, layer) for layer in self.student_layers}
        centres = {layer: self._teacher_centres(of_teacher, batch, layer) for layer in self.teacher_layers}
        terms: dict[str, Term] = {}
        if self.aligns:
            own = {layer: self._student_centres(of_student, shares, student, layer) for layer in self.of_student}
            dtype = own[self.student_layer].dtype
            weights = {
                layer: self._span_weights(of_teacher, batch, spans, layer).to(dtype) for layer in self.of_teacher
            }
            terms |= self._align(own, self._decoded(centres), weights)
        if self.carries:
            self._require_no_bias(student)
            # Always of the final states and their masses: no other layer has logits.
            weight = self.config.span_kd
            span_kd = span_kd_loss(
                student[StudentLogits()],
                spans.student_BS,
                shares[self.student_last],
                centres[self.teacher_last],
                spans.mask_BK,
                self.head,
                Columns(self.num_shared, self.student_ids),
                self.config.temperature,
                mean=self.config.span_kd_reduction == "mean",
                carried=carried,
                weight=weight,
                whole=self.config.mass_floor == 0,
                chunks=self.chunks,
                teacher_logits=batch.teacher_logits,
            )
            terms["span_kd"] = Term(span_kd, weight)
        return terms

    def _align(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], weights: Mapping[int, Tensor]
    ) -> dict[str, Term]:
        """The terms over centres [B, K, d] and span weights [B, K] by layer."""
        weight_BK = weights[self.teacher_layer]
        terms = {"effective_spans": Term(ratio(weight_BK.sum(1), weight_BK.square().sum(1)).sum(), 0.0)}
        if self.config.cos > 0:
            cos = [
                span_cosine_loss(student[s], teacher[t], weights[t], *projection)
                for (s, t), projection in zip(self.pairs, self._maps(), strict=True)
            ]
            terms["cos"] = Term(torch.stack(cos).mean(), self.config.cos)
        if self.config.geo > 0:
            geo = span_geometry_loss(student[self.student_layer], teacher[self.teacher_layer], weight_BK)
            terms["geo"] = Term(geo, self.config.geo)
        return terms

    def _require_no_bias(self, student: StudentStates) -> None:
        """Shares below a floor do not sum to 1, and a head's bias is not to be shared out."""
        if self.config.mass_floor > 0 and student[StudentUnembedding()].bias is not None:
            raise RunError(
                "sra.mass_floor: the student's head has a bias, so a span centre's logits cannot be had from its "
                "logits. Set mass_floor: 0, or span_kd: 0"
            )

    @torch.no_grad()
    def _student_shares(self, members: Members, student: StudentStates, batch: Batch, layer: int) -> Tensor:
        dtype, floor = torch.promote_types(student[StudentLogits()].dtype, torch.float32), self.config.mass_floor
        if self.config.pooling == "mean":
            return within_span(members, batch.mask_BS.to(dtype), floor)
        mass_BS = without_leading(student[StudentMass(layer)], batch.mask_BS, self.config.ignore_first)
        return within_span(members, mass_BS.to(dtype), floor)

    @staticmethod
    def _student_centres(members: Members, shares: Mapping[int, Tensor], student: StudentStates, layer: int) -> Tensor:
        return centres_of_mass(members, shares[layer], at_least_float32(student[StudentHidden(layer)]))

    @torch.no_grad()
    def _teacher_centres(self, members: Members, batch: Batch, layer: int) -> Tensor:
        hidden_BTe = batch[self.of_layer[layer]]
        mass_BT = batch.teacher_mask_BT if self.config.pooling == "mean" else self._teacher_mass(batch, layer)
        return centres_of_mass(
            members, within_span(members, mass_BT.to(hidden_BTe.dtype), self.config.mass_floor), hidden_BTe
        )

    @torch.no_grad()
    def _decoded(self, centres: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """Centres of states, [B, K, d_T], where those of the final layer may be of coordinates."""
        if self.basis_Kd is None:
            return centres
        return {**centres, self.teacher_last: centres[self.teacher_last] @ self.basis_Kd}

    @torch.no_grad()
    def _span_weights(self, members: Members, batch: Batch, spans: SpanSet, layer: int) -> Tensor:
        if self.exponent == 0:
            return relative_mass(spans.mask_BK.float(), spans.mask_BK, 0.0)
        mass_BT = self._teacher_mass(batch, layer)
        return relative_mass(span_mass(members, mass_BT), spans.mask_BK, self.exponent)

    def _teacher_mass(self, batch: Batch, layer: int) -> Tensor:
        return without_leading(batch[TeacherMass(layer)], batch.teacher_mask_BT, self.config.ignore_first)

    def parameter_groups(self) -> list[dict[str, object]]:
        """One group: the projections of L_cos and their biases."""
        return projection_groups(self.parameters(), self.config.projection)


LOSS = SRA
