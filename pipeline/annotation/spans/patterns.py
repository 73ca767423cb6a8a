"""Phrases as patterns over parts of speech, one letter per token: one regular expression matches a whole text, in C."""

import re

# The coarse tags of Universal Dependencies, which are spaCy's `pos_` too. Line breaks count as PUNCT.
TAG_OF_UPOS = {
    "ADJ": "J",
    "ADP": "I",
    "ADV": "R",
    "AUX": "X",
    "CCONJ": "&",
    "DET": "D",
    "INTJ": "!",
    "NOUN": "N",
    "NUM": "C",
    "PART": "t",
    "PRON": "P",
    "PROPN": "E",
    "PUNCT": ".",
    "SCONJ": "s",
    "SYM": "$",
    "VERB": "V",
    "X": "x",
}
POSSESSIVE = "S"  # the clitic 's, where a pipeline tells it from other particles

# MTA's verb phrase, AUX* ADV* VERB+ ADV*. Negation is a particle in the coarse tags, so it parts auxiliary and verb.
_VERB_PHRASE = re.compile(r"X*+R*+V++R*+")

# A noun with the determiner, numbers, adjectives and nouns before it, and its possessors; or a pronoun. For languages
# that put adjectives first. At most 24 words before the head: an endless run of numbers must not cost its square.
_BASE = r"D{0,2}(?:R?J|[CNE]){0,24}[NE]"
_NOUN_PHRASE = re.compile(rf"(?:(?:P|{_BASE})S){{0,8}}{_BASE}|P")


def find_verb_phrases(tags: str) -> list[tuple[int, int]]:
    """Token spans [start, end) of `AUX* ADV* VERB+ ADV*` in a string of TAG_OF_UPOS letters."""
    return [match.span() for match in _VERB_PHRASE.finditer(tags)]


def find_noun_phrases(tags: str) -> list[tuple[int, int]]:
    """Token spans [start, end) of noun phrases in a string of TAG_OF_UPOS letters and POSSESSIVE, without a parser."""
    return [match.span() for match in _NOUN_PHRASE.finditer(tags)]
