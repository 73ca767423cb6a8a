"""Raw texts with their true phrases, from a Universal Dependencies treebank: what the span annotators are judged by.

Texts are whole documents, joined as the treebank says (`SpaceAfter`, a blank line before each new paragraph).

Gold noun phrases are what spaCy's `noun_chunks` would give on these trees in spaCy's dependency scheme, namely
- a head tagged NOUN, PROPN or PRON in the role of a subject, object, root, apposition, nominal predicate (it has a
  copula, or is an `xcomp`), or of an oblique or noun modifier with a preposition; or one coordinated with such a
  head. Adverbial nouns ("last week"), vocatives, expletives, list items and parataxis are none of these, and neither
  is what stands inside another chunk (compounds, possessors);
- from the leftmost of its adjoining left dependents among determiners, adjectives, compounds, numbers, possessors,
  other noun modifiers, participles and (except of predicates, whose adverbs belong to the clause) adverbs, each with
  its whole subtree, up to the head and the rest of its name (`flat`, `goeswith`). No relative clause, no
  prepositional phrase; punctuation counts inside, never at an edge.

Gold verb phrases are `AUX* ADV* VERB+ ADV*` over the gold coarse tags, as in methods.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.annotation.spans.patterns import TAG_OF_UPOS, find_verb_phrases

Span = tuple[int, int]

_NOMINAL = {"NOUN", "PROPN", "PRON"}
_ROLES = {"nsubj", "obj", "iobj", "appos", "root", "xcomp"}
_PREPOSITIONAL = {"obl", "nmod"}
_LEFT = {"det", "amod", "compound", "nummod", "nmod", "flat", "acl", "advmod", "cc:preconj"}
_NAME = {"flat", "goeswith"}


@dataclass
class Token:
    """One syntactic word; `head` is the index of its head in the sentence, -1 for the root."""

    form: str
    upos: str
    head: int
    deprel: str
    start: int
    end: int

    @property
    def relation(self) -> str:
        """The relation without its subtype."""
        return self.deprel.partition(":")[0]


@dataclass(frozen=True)
class Document:
    """A text with its gold phrases as character spans, and the number of its words (gold tokens but punctuation)."""

    text: str
    num_words: int
    noun_phrases: set[Span]
    verb_phrases: set[Span]


def read_documents(path: Path) -> list[Document]:
    """All documents of a CoNLL-U file."""
    documents: list[Document] = []
    text, sentences = "", list[list[Token]]()
    for comments, rows in _blocks(path):
        if any(line.startswith("# newdoc") for line in comments) and sentences:
            documents.append(_document(text, sentences))
            text, sentences = "", []
        if any(line.startswith("# newpar") for line in comments) and text:
            text = text.rstrip() + "\n\n"
        text, tokens = _append(text, rows)
        sentences.append(tokens)
    return [*documents, _document(text, sentences)]


def _blocks(path: Path) -> Iterator[tuple[list[str], list[list[str]]]]:
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        lines = block.split("\n")
        yield [line for line in lines if line[0] == "#"], [line.split("\t") for line in lines if line[0] != "#"]


def _append(text: str, rows: list[list[str]]) -> tuple[str, list[Token]]:
    """The text with one more sentence, and that sentence's tokens at their places in it."""
    tokens: list[Token] = []
    covered, place = 0, 0  # the last id inside a multiword token, and how far its words have come
    for id_, form, _, upos, _, _, head, deprel, _, misc in rows:
        if "." in id_:  # an empty node of the enhanced graph
            continue
        if "-" in id_:
            covered, place = int(id_.split("-")[1]), len(text)
        elif int(id_) <= covered:  # lies in its multiword token, in full or as much as is left of it
            found = text.find(form, place)
            start = found if found >= 0 else place
            place = min(start + len(form), len(text.rstrip()))
            tokens.append(Token(form, upos, int(head) - 1, deprel, start, place))
            continue
        else:
            tokens.append(Token(form, upos, int(head) - 1, deprel, len(text), len(text) + len(form)))
        text += form + ("" if "SpaceAfter=No" in misc.split("|") else " ")
    return text, tokens


def _document(text: str, sentences: list[list[Token]]) -> Document:
    nouns, verbs = set[Span](), set[Span]()
    for tokens in sentences:
        nouns |= {(tokens[a].start, tokens[b].end) for a, b in _noun_chunks(tokens)}
        tags = "".join(TAG_OF_UPOS[token.upos] for token in tokens)
        verbs |= {(tokens[a].start, tokens[b - 1].end) for a, b in find_verb_phrases(tags)}
    words = sum(token.upos not in ("PUNCT", "SYM") for tokens in sentences for token in tokens)
    return Document(text.rstrip(), words, nouns, verbs)


def _noun_chunks(tokens: list[Token]) -> Iterator[tuple[int, int]]:
    """First and last token of every chunk."""
    children: list[list[int]] = [[] for _ in tokens]
    for i, token in enumerate(tokens):
        if token.head >= 0:
            children[token.head].append(i)
    previous_end = -1
    for i, token in enumerate(tokens):
        if token.upos in _NOMINAL and _has_role(i, tokens, children):
            start, end = _left_edge(i, tokens, children), _name_end(i, tokens, children)
            if start > previous_end:
                previous_end = end
                yield start, end


def _has_role(i: int, tokens: list[Token], children: list[list[int]]) -> bool:
    while tokens[i].relation == "conj":
        i = tokens[i].head
    token, relations = tokens[i], {tokens[c].relation for c in children[i]}
    if token.relation in _PREPOSITIONAL:
        return "case" in relations and token.deprel != "nmod:poss"
    return token.relation in _ROLES or "cop" in relations


def _left_edge(i: int, tokens: list[Token], children: list[list[int]]) -> int:
    predicate = any(tokens[c].relation == "cop" for c in children[i])
    edge = i
    for c in reversed([c for c in children[i] if c < i]):
        token = tokens[c]
        if token.relation == "punct":
            continue
        if (token.relation not in _LEFT and token.deprel not in _LEFT) or (predicate and token.relation == "advmod"):
            break
        edge = _first(c, children)
    while tokens[edge].upos == "PUNCT":
        edge += 1
    return edge


def _first(i: int, children: list[list[int]]) -> int:
    return min([i, *(_first(c, children) for c in children[i])])


def _name_end(i: int, tokens: list[Token], children: list[list[int]]) -> int:
    return max([i, *(_name_end(c, tokens, children) for c in children[i] if c > i and tokens[c].relation in _NAME)])
