"""Any spaCy pipeline as an annotator: an installed package, or a folder.

Words are the pipeline's tokens that have a letter or digit, contractions put together again (`do|n't` is one word;
see `words` for why). Noun phrases are its noun chunks where it has a parser and its language defines chunks, else a
pattern over its coarse tags. Verb phrases are MTA's pattern over its coarse tags, as that pipeline gives them:
pipelines differ in whether a copula is AUX or VERB and whether "not" is PART or ADV.

Cost: on one CPU core 4,000 to 10,000 words per second for a small pipeline. Components whose results are not used
(entities, lemmas, categories) are not loaded.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import spacy
from spacy.about import __version__ as spacy_version
from spacy.language import Language
from spacy.tokens import Doc, Token

from pipeline.annotation.spans.patterns import POSSESSIVE, TAG_OF_UPOS, find_noun_phrases, find_verb_phrases
from pipeline.annotation.spans.words import span_array
from pipeline.corpus.sample import Spans
from schemas.errors import AnnotatorError

_VERSION = 1  # of the rules here and in `patterns`

_UNUSED = [
    "ner",
    "beam_ner",
    "entity_linker",
    "entity_ruler",
    "lemmatizer",
    "trainable_lemmatizer",
    "textcat",
    "textcat_multilabel",
    "spancat",
    "spancat_singlelabel",
    "span_finder",
    "span_ruler",
    "future_entity_ruler",
]


def load_spacy(name: str) -> "SpacyAnnotator":
    """The annotator `spacy:NAME_OR_PATH`.

    Raises AnnotatorError if the pipeline is not there, cannot be loaded, or gives no coarse parts of speech.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir() and not spacy.util.is_package(name):
        raise AnnotatorError(
            f"There is no spaCy pipeline {name!r}, neither as an installed package nor as a folder. Run "
            f"`python -m spacy download {folder.name or 'en_core_web_sm'}` in this environment, on every machine that "
            "extracts, or give a folder's path."
        )
    try:
        nlp = spacy.load(folder if folder.is_dir() else name, exclude=_UNUSED)
    except (OSError, ValueError, ImportError) as error:  # no pipeline; unknown component or setting; a package it needs
        raise AnnotatorError(
            f"The spaCy pipeline {name!r} does not load with spaCy {spacy_version}: {error}\n"
            "Run `python -m spacy validate` to see which version fits, or install what it misses."
        ) from error
    return SpacyAnnotator(nlp, name)


class SpacyAnnotator:
    """Words, noun and verb phrases by a pipeline loaded from its folder or package. `annotator: spacy:NAME_OR_PATH`.

    Raises AnnotatorError if no component of the pipeline gives coarse parts of speech.
    """

    def __init__(self, nlp: Language, name: str) -> None:
        makers = {pipe: nlp.get_pipe_meta(pipe) for pipe in nlp.pipe_names}
        if not any(meta.factory == "attribute_ruler" or "token.pos" in meta.assigns for meta in makers.values()):
            raise AnnotatorError(
                f"The spaCy pipeline {name!r} gives no coarse parts of speech. It has {nlp.pipe_names or 'no parts'} "
                "and needs a morphologizer, or a tagger with an attribute_ruler, as en_core_web_sm has."
            )
        parses = any("token.dep" in meta.assigns for meta in makers.values())
        self._has_chunks = parses and nlp.vocab.get_noun_chunks is not None
        self._nlp = nlp
        self._name = name
        self.version = (
            f"spacy:{nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']} sha={_digest(nlp.path)} "
            f"(spacy {spacy_version}, patterns {_VERSION})"
        )

    def annotate(self, texts: Sequence[str]) -> list[Spans]:
        """Spans of each text, which depend on that text alone.

        Raises AnnotatorError for a text longer than the pipeline takes.
        """
        # One by one, at three quarters of a batch's speed: in a batch, matrix products have other shapes, which could
        # tip a close decision and change the cache's bytes.
        return [self._annotate(text) for text in texts]

    def _annotate(self, text: str) -> Spans:
        if len(text) > self._nlp.max_length:
            raise AnnotatorError(
                f"A text of {len(text):,} characters, beginning {text[:40]!r}, is longer than the "
                f"{self._nlp.max_length:,} that the spaCy pipeline {self._name!r} takes. Cut the corpus into shorter "
                "samples, or set `spans.annotator` to 'english' or 'none'."
            )
        doc = self._nlp(text)
        # A line break stays, as a mark that no phrase crosses; other white space is not a token to the patterns.
        tokens = [token for token in doc if not token.is_space or "\n" in token.text]
        tags = "".join(_letter(token) for token in tokens)
        chunks = sorted(self._chunks(doc)) if self._has_chunks else _pick(tokens, find_noun_phrases(tags))
        return Spans(
            words=span_array(_words(doc)),
            noun_phrases=span_array(chunks),
            verb_phrases=span_array(_pick(tokens, find_verb_phrases(tags))),
        )

    @staticmethod
    def _chunks(doc: Doc) -> Iterator[tuple[int, int]]:
        """Noun chunks without punctuation or white space at their ends."""
        for chunk in doc.noun_chunks:
            inner = [token for token in chunk if not (token.is_punct or token.is_space)]
            if inner:
                yield inner[0].idx, _end(inner[-1])


def _letter(token: Token) -> str:
    if token.is_space:
        return "."
    if token.tag_ == "POS":
        return POSSESSIVE
    if token.pos_ == "PRON" and "Yes" in token.morph.get("Poss", []):
        return "D"  # "my" stands before a noun as a determiner does
    return TAG_OF_UPOS.get(token.pos_, "x")


def _words(doc: Doc) -> list[tuple[int, int]]:
    words: list[tuple[int, int]] = []
    for token in doc:
        if not any(character.isalnum() for character in token.text):
            continue
        continues = words and words[-1][1] == token.idx and token.lower_.startswith(("'", "’", "n't", "n’t"))
        start = words.pop()[0] if continues else token.idx
        words.append((start, _end(token)))
    return words


def _pick(tokens: list[Token], found: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(tokens[first].idx, _end(tokens[last - 1])) for first, last in found]


def _end(token: Token) -> int:
    return int(token.idx + len(token))


def _digest(folder: Path) -> str:
    """Hash of the names and contents of the files in a pipeline's folder."""
    digest = hashlib.sha256()
    for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()):
        digest.update(name.encode() + b"\0")
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
