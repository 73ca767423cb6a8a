import re

import pytest

from jobs.demo.corpus import stories


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return stories(6000)


def test_stories_are_many_different_and_of_moderate_length(texts: list[str]) -> None:
    assert len(texts) == len(set(texts)) == 6000
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) >= 50
    assert max(lengths) <= 130


def test_stories_depend_on_the_seed_and_nothing_else(texts: list[str]) -> None:
    assert stories(50) == texts[:50]
    assert not set(stories(200, seed=1)) & set(texts[:200])


def test_articles_number_and_capitals_agree(texts: list[str]) -> None:
    whole = "\n".join(texts)
    assert not re.search(r"\b[Aa] [aeiou]", whole)
    assert not re.search(r"\b[Aa]n [^aeiou]", whole)
    assert not re.search(r"[.!?] \"?[a-z]", re.sub(r'[.!?]" [a-z]', "", whole))
    assert not re.search(r"\b(keys|knives|boxes|books) (was|is)\b", whole)
    assert not re.search(r"\b(key|knife|box|book) (were|are)\b", whole)


def test_pronouns_agree_with_the_name(texts: list[str]) -> None:
    openings = [re.match(r"(?:One|There|It).*? (\w+) was .*? (He|She) had", text) for text in texts]
    seen = {(found[1], found[2]) for found in openings if found}
    names = [name for name, _ in seen]
    assert len(seen) == 40  # each name with one pronoun
    assert len(names) == len(set(names))
