"""Key layers: which layers of the student follow which layers of the teacher."""

from collections.abc import Sequence

from schemas.errors import RunError
from schemas.layers import Layer, LayerSelection, matching_layer, resolve_layer, resolve_layers
from trainer.objectives.context import LossContext


def layer_pairs(
    student_layers: LayerSelection, teacher_layers: Sequence[Layer] | None, context: LossContext, loss: str
) -> tuple[tuple[int, int], ...]:
    """(student layer, teacher layer) from the lowest up; without teacher layers, phi(l) = round(l * L_T / L_S).

    Raises ConfigError for a layer that does not exist and RunError for counts or an order that do not fit.
    """
    num_student, num_teacher = context.student.layers, context.manifest.teacher.num_layers
    students = resolve_layers(student_layers, num_student, f"{loss}.student_layers")
    if teacher_layers is None:
        return tuple((layer, matching_layer(layer, num_student, num_teacher)) for layer in students)
    teachers = [resolve_layer(layer, num_teacher, f"{loss}.teacher_layers") for layer in teacher_layers]
    if len(teachers) != len(students):
        raise RunError(
            f"{loss}.teacher_layers: {len(teachers)} teacher layers for {len(students)} student layers "
            f"({', '.join(map(str, students))}); give one for each, or leave them out"
        )
    if teachers != sorted(teachers):
        raise RunError(
            f"{loss}.teacher_layers: {', '.join(map(str, teachers))} do not ascend as the student's layers do; "
            "sort them"
        )
    return tuple(zip(students, teachers, strict=True))
