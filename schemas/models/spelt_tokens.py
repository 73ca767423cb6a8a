"""Special tokens that a text spells out, as a chat template does: which characters are theirs.

Some tokenizers let such a token take the white space beside it along (Phi-3's `<|end|>` the line end behind it). So it
would end behind its own spelling, and outside of a target that ends with it.
"""

import numpy as np

from schemas.models.bare_tokenizer import AnyTokenizer


def greedy_tokens(tokenizer: AnyTokenizer) -> frozenset[int]:
    """The ids of added tokens that take white space along."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(number for number, token in added if token.lstrip or token.rstrip)


def own_characters(text: str, ids_T: np.ndarray, offsets_T2: np.ndarray, greedy: frozenset[int]) -> np.ndarray:
    """[T, 2]: `offsets_T2` without the white space that `greedy` tokens have taken along."""
    found_T2 = offsets_T2.copy()
    for place in np.flatnonzero(np.isin(ids_T, list(greedy))) if greedy else ():
        start, end = offsets_T2[place].tolist()
        spelt = text[start:end]
        if spelt.strip():
            found_T2[place] = end - len(spelt.lstrip()), start + len(spelt.rstrip())
    return found_T2
