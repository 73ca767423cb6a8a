"""The section `states`: which of the teacher's states are kept. Every kind of states brings its own field."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import create_model, model_validator

from schemas.cache.arrays import KINDS, StateKind
from schemas.cache.dtypes import Dtype
from schemas.cache.encoding import Encoding
from schemas.cache.token_rows import KeptRows
from schemas.strict import WITHOUT_SOURCE, Strict


class _States(Strict):
    """Which of the teacher's states are kept. hidden_states[0] is the embeddings, the last is after the final norm."""

    dtype: Dtype = "bfloat16"
    """Dtype on disk of what is not encoded. bfloat16 is stored as uint16, its dtype in the attributes."""
    encoding: Encoding | None = None
    """How exactly hidden states are kept: exact; careful, small or tiny, about 1/4, 1/8 and 1/16 of bfloat16; or what
    may be lost. Left out: small, and exact if `dtype` is not bfloat16."""
    rows: KeptRows = "all"
    """Which tokens have rows of hidden states and next-token distributions: all, or the targets, the token before each
    and the last, which is what kd, sra and most other losses read. Masses and embeddings do not change."""

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> "_States":
        for kind in KINDS.values():
            kind.settings(self)  # raises ValueError for what contradicts itself
        return self


if TYPE_CHECKING:

    class StatesConfig(_States):
        """With the fields that the kinds of states bring."""

        def __init__(self, **fields: Any): ...

else:
    StatesConfig = create_model(
        "StatesConfig",
        __base__=_States,
        __doc__=_States.__doc__,
        __module__=__name__,
        __cls_kwargs__=WITHOUT_SOURCE,
        **{name: kind.field for name, kind in KINDS.items()},
    )


def asked_kinds(states: StatesConfig) -> Iterator[tuple[StateKind[Any], Any]]:
    """The kinds that `states` asks for, in the order of their arrays, each with its settings."""
    for kind in KINDS.values():
        settings = kind.settings(states)
        if settings is not None:
            yield kind, settings
