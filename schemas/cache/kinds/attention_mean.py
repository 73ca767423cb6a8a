"""Attention maps of chosen layers, averaged over their heads."""

from pydantic import Field

from schemas.cache.kinds.attention import FullAttention, MapsConfig
from schemas.cache.teacher import TeacherRecord


class MeanAttention(FullAttention):
    """[P] of each layer: what each token pays to every token that it may attend to."""

    name = "attention_mean"
    order = 6
    field = (MapsConfig | None, Field(None, description="Attention maps averaged over heads; null for none."))

    def width(self, teacher: TeacherRecord) -> None:
        """One number per pair."""
        return


KIND = MeanAttention()
