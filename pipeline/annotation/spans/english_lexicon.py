"""The parts of speech of an English word, seen alone: closed classes by hand, others by Brill's lexicon or ending.

The lexicon (94,000 words of the Brown corpus and the Wall Street Journal with their most frequent tag; MIT licence)
is a data file of the package textblob. It is read from where that package lies, and the package itself is never
imported: that would load nltk. Loading takes half a second, once per process.

Tags are single letters. The settled ones are those of `patterns` (J adjective, N noun, ...) and
    M possessive   p subject pronoun   Q participle before a noun   W when, where, how   U adverbial noun of time
    b form of be   r degree adverb     T to   S possessive 's   x there, in "there is"   _ stop of an abbreviation
The open ones, which `english_context` settles by their neighbours:
    n noun or verb          v verb or noun           B verb, base form      f adjective or verb     G -ing form
    m plural or 3rd person  z 3rd person or plural   Z 3rd person           g noun or -ing form     L -ed form
    a have   d do   o 's   l like   c one   e there   q that   w this   k what   y more   j many   H her   h his   u day
    O home
"""

import hashlib
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from schemas.errors import AnnotatorError

_CLOSED = {
    "D": "a an all the each every any some no another either neither both such",
    "w": "this these those",
    "q": "that",
    "k": "what which",
    "M": "my your our their its whose ur thy",
    "H": "her",
    "h": "his",
    "p": "i he she we they it you ya u",
    "P": "me him us them myself yourself himself herself itself ourselves yourselves themselves mine yours hers ours "
    "theirs who whom someone somebody something anyone anybody anything everyone everybody everything nobody "
    "nothing whoever whatever 'em",
    "X": "can could will would shall should may might must ca wo 'll 'd ll",
    "b": "be am is are was were been being 'm 're",
    "o": "'s",
    "a": "have has had having 've",
    "d": "do does did",
    "T": "to",
    "t": "not n't",
    "&": "and or but nor plus",
    "l": "like",
    "c": "one",
    "e": "there",
    "y": "more most less least",
    "j": "many much few several own other same last next first second third half",
    "O": "home",
    "U": "today tomorrow yesterday tonight",
    "u": "day days night nights week weeks weekend month months year years morning evening afternoon hour hours "
    "minute minutes monday tuesday wednesday thursday friday saturday sunday time times",
    "C": "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion "
    "trillion dozen",
    "W": "when where why how whenever wherever",
    "I": "of in for on with at by from as about into over after before between through during without against under "
    "within along across behind beyond among toward towards upon around near above below beside besides despite "
    "except inside outside off onto throughout up out down via per than until till since unlike amid amongst "
    "atop versus vs",
    "s": "if because although though while whereas unless whether cause cuz",
    "r": "very too so quite really extremely pretty rather fairly highly somewhat incredibly totally completely "
    "absolutely super truly particularly especially relatively almost nearly approximately roughly",
    "R": "also just only even still already yet never always often sometimes usually now then here again once ever "
    "soon later maybe perhaps however instead away back together well anymore else far ago thus therefore hence "
    "probably certainly actually",
    "!": "yes yeah oh ok okay please hi hello hey wow lol",
}

# Contractions: the clitics of `don't`, `I'm`, `we'll`; for each, what it is on its own.
CLITICS = {word: tag for tag, words in _CLOSED.items() for word in words.split() if "'" in word and word != "'em"}

_OF_PENN = {
    "NN": "N",
    "NNS": "N",
    "NNP": "E",
    "NNPS": "E",
    "VB": "B",
    "VBP": "B",
    "VBZ": "Z",
    "VBD": "L",
    "VBN": "L",
    "VBG": "G",
    "JJ": "J",
    "JJR": "J",
    "JJS": "J",
    "RB": "R",
    "RBR": "R",
    "RBS": "R",
    "CD": "C",
    "IN": "I",
    "UH": "!",
    "MD": "X",
    "PRP": "P",
    "DT": "D",
    "FW": "N",
    "WRB": "W",
    "RP": "I",
    "SYM": "$",
    "CC": "&",
    "TO": "T",
    "PRP$": "M",
}

_ORDINALS = ("st", "nd", "rd", "th")
_ADJECTIVES = (
    "able",
    "ible",
    "ful",
    "less",
    "ous",
    "ive",
    "ish",
    "ic",
    "ical",
    "ary",
    "ial",
    "est",
    "esque",
    "ular",
    "most",
)
_VERBS = ("ize", "ise", "ify")


class Lexicon:
    """Tags of words. `digest` stands for the data file's content."""

    def __init__(self, content: bytes) -> None:
        self.digest = hashlib.sha256(content).hexdigest()[:12]
        self._closed = {word: tag for tag, words in _CLOSED.items() for word in words.split()}
        self._open = _ambiguous(_read(content))
        # Words repeat: remembering the last quarter of a million different ones answers nearly every question.
        self.tag = lru_cache(maxsize=1 << 18)(self._tag)

    def _tag(self, word: str, opens_sentence: bool) -> str:
        """Tag of a word (with plain apostrophes). A capital says "name", except in the first word of a sentence."""
        lower = word.lower()
        shouted = len(word) > 1 and word.isupper()
        tag = self._closed.get(lower)
        if tag and not (shouted and lower in ("us", "it", "may", "am")):
            return tag
        if word == lower:
            return self._open.get(word) or _guess(word)
        if shouted and not opens_sentence:
            tag = self._open.get(lower)
            return "E" if self._open.get(word) == "E" or tag is None or tag in "EP" else tag
        if not opens_sentence:
            return "E"
        tag = self._open.get(lower) or self._open.get(word) or _guess(lower)
        return "E" if tag == "N" and lower not in self._open else tag


@lru_cache(maxsize=1)
def load_lexicon() -> Lexicon:
    """The lexicon of the installed textblob.

    Raises AnnotatorError if that package, or its data file, is not there.
    """
    spec = importlib.util.find_spec("textblob")  # finds, does not import
    if spec is None or not spec.submodule_search_locations:
        raise AnnotatorError(
            "The annotator 'english' reads the lexicon of the package textblob, which is not installed. "
            "Run `python -m pip install textblob`, or set `spans.annotator` to 'spacy:NAME' or 'none'."
        )
    path = Path(spec.submodule_search_locations[0]) / "en" / "en-lexicon.txt"
    if not path.is_file():
        raise AnnotatorError(
            f"The annotator 'english' needs {path}, which the installed textblob does not have. "
            "Run `python -m pip install textblob==0.20.1`, or set `spans.annotator` to 'spacy:NAME' or 'none'."
        )
    return Lexicon(path.read_bytes())


def _read(content: bytes) -> dict[str, str]:
    """Penn tags: `word TAG` on a line, comments by `;;;`. Where a line has alternatives (`NN|JJ`) the first counts."""
    tags = {}
    for line in content.decode("utf-8").splitlines():
        word, _, tag = line.strip().partition(" ")
        tag = tag.partition("|")[0]
        if word != ";;;" and tag in _OF_PENN:
            tags[word] = tag
    return tags


def _ambiguous(penn: dict[str, str]) -> dict[str, str]:
    """Our tags. The lexicon names only the most frequent one, but its inflected forms betray the others:
    with `worked` in it, the noun `work` can be a verb; with `needs` a plural, the verb `need` can be a noun."""
    verbs = {word.lower() for word, tag in penn.items() if tag in ("VB", "VBP")}
    for word, tag in penn.items():
        if tag in ("VBD", "VBN", "VBG"):
            verbs.update(base for base in _bases(word.lower()) if base in penn)
    nouns = {word.lower() for word, tag in penn.items() if tag == "NN"}

    tags = {}
    for word, tag in penn.items():
        tags[word] = _OF_PENN[tag]
        if tag == "NN" and len(word) > 5 and word.endswith("ing") and any(base in verbs for base in _bases(word)):
            tags[word] = "g"
        elif tag == "NN" and word in verbs:
            tags[word] = "n"
        elif tag in ("VB", "VBP") and penn.get(_with_s(word)) == "NNS":
            tags[word] = "v"
        elif tag == "JJ" and word in verbs:
            tags[word] = "f"
    for word in sorted(verbs):
        form = _with_s(word)
        tag = penn.get(form, "")
        if tag not in ("", "NNS", "VBZ"):
            continue
        if word in nouns or tag == "NNS":
            tags[form] = "z" if tag == "VBZ" else "m"
        elif not tag:
            tags[form] = "Z"
    return tags


def _bases(word: str) -> Iterator[str]:
    """The forms that an -ed or -ing form may come from: walk, bake, stop, try."""
    stem = word[:-3] if word.endswith("ing") else word[:-2] if word.endswith("ed") else ""
    if stem:
        yield from (stem, stem + "e")
        if stem[-1:] == stem[-2:-1]:
            yield stem[:-1]
        if stem.endswith("i"):
            yield stem[:-1] + "y"


def _with_s(word: str) -> str:
    """Plural, or third person: the spelling is the same."""
    if len(word) > 2 and word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _guess(word: str) -> str:
    """Tag of a word that the lexicon lacks, by its ending."""
    if word[0].isdigit():
        if not word[-1].isalpha():
            return "C"
        return "J" if word.endswith(_ORDINALS) else "C" if len(word) < 5 else "N"
    if word.endswith("ly"):
        return "R"
    if word.endswith("ing") and len(word) > 5:
        return "G"
    if word.endswith("ed") and len(word) > 4:
        return "L"
    return "J" if word.endswith(_ADJECTIVES) else "B" if word.endswith(_VERBS) else "N"
