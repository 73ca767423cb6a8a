"""Phrases as patterns over coarse parts of speech."""

from pipeline.annotation.spans.patterns import TAG_OF_UPOS, find_noun_phrases, find_verb_phrases


def tags(upos: str) -> str:
    return "".join(TAG_OF_UPOS[tag] for tag in upos.split())


def test_verb_phrases_are_aux_adv_verb_adv() -> None:
    assert find_verb_phrases(tags("PRON AUX AUX ADV ADV VERB VERB ADV DET NOUN")) == [(1, 8)]
    assert find_verb_phrases(tags("AUX ADJ PUNCT ADV NOUN")) == []  # a copula is not a verb phrase
    assert find_verb_phrases(tags("AUX PART VERB ADV AUX VERB")) == [(2, 4), (4, 6)]
    assert find_verb_phrases(tags("ADV AUX VERB")) == [(1, 3)]


def test_noun_phrases_are_heads_with_what_stands_before_them() -> None:
    assert find_noun_phrases(tags("DET ADV ADJ NOUN NOUN VERB PRON ADP PROPN PROPN")) == [(0, 5), (6, 7), (8, 10)]
    assert find_noun_phrases(tags("DET NOUN") + "S" + tags("ADJ NOUN PUNCT NUM NOUN CCONJ NOUN")) == [
        (0, 5),
        (6, 8),
        (9, 10),
    ]
    assert find_noun_phrases(tags("ADJ ADV DET NUM")) == []
