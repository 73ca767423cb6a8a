"""Texts that annotators stumble on, and what must hold of spans in any text."""

import numpy as np
from hypothesis import strategies as st

# Words, and what breaks offsets: wide and combining characters, white space of every kind, quotes, clitics, addresses.
VISIBLE = (
    "the old dog dogs was n't not quickly running John 's s' I she that can cannot I'm 1,000 3.14 U.S. Mr. $ % - -- , "
    '. ! " “ ” ’ ( ) & / @ _ é ß İ 漢字 かな हिन्दी 👩‍👩‍👧 𝒳 https://x.org/a?b=c a@b.org e\u0301 \u0301'
)
BLANK = [" ", "  ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u2028", "\u200d", "\u00ad", "\ufeff", "\0"]
PIECES = st.sampled_from(VISIBLE.split()) | st.sampled_from(BLANK) | st.just(" ")
MESSY = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=40)


def assert_sound(text: str, array: np.ndarray) -> None:
    """In bounds, not empty, in order, apart from one another, no white space at the ends."""
    assert array.dtype == np.int32 and array.ndim == 2 and array.shape[1] == 2
    flat = array.reshape(-1)
    assert (np.diff(flat) >= 0).all() and (array[:, 0] < array[:, 1]).all()
    assert not len(flat) or (flat[0] >= 0 and flat[-1] <= len(text))
    for start, end in array:
        assert not text[start].isspace() and not text[end - 1].isspace()
