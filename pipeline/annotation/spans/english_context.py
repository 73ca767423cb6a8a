"""Parts of speech of an English text, settled by context, and its noun phrases: rules that rewrite a string of letters.

Rules run in order, each over the whole text, each keeping the length; `english_lexicon` says what a letter means.
They were written by hand, looking at the training part of a treebank and never at the part that measures them. All of
them together cost about 2 µs per word.
"""

import re

_NOUN_LIKE = "NEJnmfCvGgzcju"  # can go on after a possessive

_RULES = [
    # --- money
    (r"\$(?=C)", "C"),
    # --- 's: a verb after pronouns, else a possessive if the like of a noun follows
    (r"(?<=[pPkqexW])o", "b"),
    (rf"o(?=[{_NOUN_LIKE}y\-\"]|L[NnEJm])", "S"),
    (r"(?<=[NE])o(?=[^DMtRrLGIpPTH])", "S"),
    (r"o", "b"),
    # --- her, his
    (rf"H(?=[rR]?[L{_NOUN_LIKE}\"])|h(?=[rR]?[BLRZ{_NOUN_LIKE}\"])", "M"),
    (r"[Hh]", "P"),
    # --- one; there is (where "be" is the verb, as in the treebanks); home; nouns of time that no preposition governs
    (r"(?<=[DwJjM])c", "N"),
    (r"c", "C"),
    (r"eb", "xV"),
    (r"e(X[tR]?)b", r"x\1V"),
    (r"be(?=[DyC])", "Vx"),
    (r"(?<=[VBLGvZ])O", "R"),
    (r"O", "N"),
    (r"(?<=I)([DwMjJCc]{0,6})u", r"\1N"),
    (r"(?<=[jwC])u", "U"),
    (r"D(j?)uR", r"D\1UR"),
    (r"u", "N"),
    # --- like
    (r"(?<=[pXTZ])l|(?<=[pX][tRr])l|(?<=dt)l", "V"),
    (r"l", "I"),
    # --- what, which; this; that; more; many
    (r"k(?=r?[NnJ]|m[^DMTIPJ])", "D"),
    (r"k", "P"),
    (r"w(?=[JNEnmfCcjyGLU\"]|v[^DMp])", "D"),
    (r"w", "P"),
    (r"(?<=[VBvZLzNnEm])q(?=[pDMEPwHX])", "s"),
    (r"(?<=[NnEmP.])q(?=[XbadVBvZLzRm])", "P"),
    (r"q(?=[JNnfEC])", "D"),
    (r"q(?=[.,XbadZt:)\"]|$)", "P"),
    (r"q", "s"),
    (r"Dy(?![NnEmCLGvJ])", "RR"),
    (r"y(?=[JfRI])", "r"),
    (r"y(?=[NnEmCLGv])", "J"),
    (r"y", "R"),
    (r"(?<=pR)j(?=[DCMN])|(?<=p)j(?=[DCM])", "V"),
    (r"j", "J"),
    # --- have, do: auxiliaries before a participle, a negation, an infinitive; else verbs
    (r"a(?=[tRrpP]*+[Lba])", "X"),
    (r"a(?=T)", "V"),
    (r"(?<=X)a(?=[tRr]*+L)", "X"),
    (r"a", "V"),
    (r"d(?=t|[pP]?[Rr]*+[BvnfVald]|[DM]?[JEN]{0,6}[NEnm][BVa])", "X"),
    (r"d", "V"),
    # --- verbs: after auxiliaries, to, be, and where a clause goes on or a command begins
    (r"(?<=X)[nvBflmJ](?![Nn])|(?<=X[trRpP])[nvBfl]|(?<=XtR)[nvBfl]|(?<=X[JR]R)[nvBf]", "V"),
    (r"(?<=T)[vBfn]|(?<=T[Rr])[vBn]", "V"),
    (r"(?<=TV&)[nv]", "V"),
    (r"(?<=b)g|(?<=b[tRrp])g", "V"),
    (r"(?<=&)n(?=[DMPH])|(?<=[.!,])n(?=[DMPpHw])", "V"),
    # --- nouns: after determiners, possessors, adjectives, prepositions
    (r"(?<=D)s", "N"),
    (r"(?<=[DMJSC])[vnf](?=[NEnm])", "N"),
    (r"(?<=[DMSJ])[nvBg]|(?<=I)[Bv]", "N"),
    (r"(?<=[DMSJCI])[mzZ]|(?<=E)[mz]", "N"),
    (r"(?<=[NnE])[Bv](?=[abXd])", "N"),
    (r"(?<=[DMSr])f|f(?=[NEnm,&])", "J"),
    # --- subject and verb
    (r"(?<=p)[nvBfmz]|(?<=p[Rr])[nvBmz]|(?<=pD)[nvB]|(?<=P)[mz](?!b)", "V"),
    (r"(?<=N)[nv](?=[DMpPHw])|(?<=[NE])[zm](?=[DMpPHwTJr])", "V"),
    (r"g(?=[DMPpHwq])", "V"),
    # --- what is still open
    (r"f", "J"),
    (r"[BZvz]", "V"),
    (r"[nmg]", "N"),
    # --- participles before a noun, and as a noun
    (r"(?<=[DMSC])[LG](?=[NEJ])|(?<=[DMSC][JrR])[LG](?=[NEJ])|(?<=J)[LG](?=N)|(?<=[NJRC]-)[LG]", "Q"),
    (r"(?<=[DM])G|(?<=[DMS]J)G", "N"),
    (r"(?<=r)L(?![NEDM])", "J"),
    (r"[LG]", "V"),
]
_COMPILED = [(re.compile(pattern), tag) for pattern, tag in _RULES]

# An adjective with its adverbs and the adjectives coordinated with it; or the first part of `long-term`.
_MODIFIER = r"(?:[rR]{0,4}[JCQ](?:(?:,&?|&)r?[JQ](?=[NEJC,&])){0,6}|[NJCIRE]-[NEJQ](?=[NEJQ]))"
_DETERMINER = r"(?:r(?=[DC]))?(?:[DM]\"?(?:[DM]|C(?=J)|R(?=[JQ]))?)?"
_BASE = rf"{_DETERMINER}(?:{_MODIFIER}|[NE]_?-?){{0,24}}[NE]_?"
# Atomic: there are many ways to read a chain of hyphens, and none of them helps if no possessive follows.
_NOUN_PHRASE = re.compile(rf"(?:(?>{_BASE})S){{0,8}}(?>{_BASE})|[pP]")

_COARSE = str.maketrans({"b": "X", "r": "R", "W": "R", "e": "R", "Q": "V", "p": "P", "M": "D", "T": "t", "U": "N"})


def settle(tags: str) -> str:
    """The same string, every open letter decided."""
    for pattern, tag in _COMPILED:
        tags = pattern.sub(tag, tags)
    return tags


def find_noun_phrases(settled: str) -> list[tuple[int, int]]:
    """Token spans [start, end) of base noun phrases and pronouns.

    Finer than the pattern over coarse tags: it knows possessives, participles, degree adverbs, hyphens, abbreviations,
    and leaves out nouns of time that serve as adverbs ("last week").
    """
    return [match.span() for match in _NOUN_PHRASE.finditer(settled)]


def coarse(settled: str) -> str:
    """Settled tags as the letters of `patterns.TAG_OF_UPOS`."""
    return settled.translate(_COARSE)
