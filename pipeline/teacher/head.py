"""The head of a loaded teacher, as encoders take it."""

from pipeline.encoding.head import Head
from pipeline.teacher.run import Teacher
from schemas.models.logits import LogitTransform


def teacher_head(teacher: Teacher) -> Head | None:
    """What turns the teacher's final states into logits, on its device; None for an encoder."""
    record = teacher.record.head
    if record is None:
        return None
    weight_Vd, bias_V = teacher.head()
    return Head(
        weight_Vd.detach(), None if bias_V is None else bias_V.detach(), LogitTransform(record.scale, record.softcap)
    )
