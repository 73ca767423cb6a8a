"""Weights of a folder that the model built from its config.json has no place for, and that it cannot do without.

A head for another task, a pooler or a tower that this model lacks as a whole may be left out: no state passes through
it. A layer beyond those that config.json counts, or a bias that it denies, may not.
"""

import re
from collections.abc import Iterable
from typing import Any

# Once saved with models, now computed: masks and positions.
_COMPUTED = re.compile(r"(^|\.)(position_ids|inv_freq|original_inv_freq|masked_bias)$")
_NUMBER = re.compile(r"\.\d+(?=\.|$)")


def weights_left_out(model: Any, unexpected: Iterable[str]) -> list[str]:
    """Those of the `unexpected` weights that belong to a module or to a list of layers that the model has, sorted.

    transformers has taken out before what the model's own code says may be left out.
    """
    prefix = f"{model.base_model_prefix}."
    modules = {_place(name, prefix) for name, _ in model.named_modules() if name}
    computed = {_place(name, prefix) for name, _ in model.named_buffers()}
    declared = _declared_layers(model.config.get_text_config())
    return sorted(
        name
        for name in unexpected
        if not _COMPUTED.search(name)
        and _place(name, prefix) not in computed
        and not (declared and declared.search(name))
        and any(owner in modules for owner in _owners(_place(name, prefix)))
    )


def _place(name: str, prefix: str) -> str:
    """A name as it is below the model's body and for any layer: a body alone is saved without its prefix."""
    return _NUMBER.sub(".*", "." + name.removeprefix(prefix))


def _owners(place: str) -> list[str]:
    """The module of a weight, and the lists of layers that the module is in."""
    return [place.rpartition(".")[0], *(place[: match.end()] for match in re.finditer(r"\.\*(?=\.)", place))]


def _declared_layers(config: Any) -> "re.Pattern[str] | None":
    """The layers behind the last that only predict further tokens (DeepSeek-V3, section 2.2), if there are any."""
    layers, more = getattr(config, "num_hidden_layers", 0), getattr(config, "num_nextn_predict_layers", 0)
    if not isinstance(layers, int) or not isinstance(more, int) or not 0 < more < 10:
        return None
    return re.compile(rf"(^|\.)layers\.({'|'.join(str(layers + number) for number in range(more))})\.")
