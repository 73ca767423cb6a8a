"""A made-up English corpus for the demo: small stories from a grammar, so that nothing has to be downloaded.

A story has a person, a friend, a place and a thing that is lost, found and kept in mind to the end: names, pronouns,
number, tense and articles agree throughout, so there is more to learn than which word follows which. 6,000 stories take
under a second and are all different.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_SHE = "Anna Bella Clara Dora Edith Flora Greta Hanna Ida Julia Kate Lena Mira Nora Olive Paula Rosa Sara Tilda Vera"
_HE = "Adam Ben Carl David Emil Felix George Hugo Ivan Jacob Karl Leo Max Noah Oscar Paul Robin Simon Tom Victor"
_KIN = ["sister", "brother", "cousin", "neighbour", "teacher", "grandmother", "uncle", "old friend"]
_PLACES = [
    ("in", "garden"), ("in", "forest"), ("in", "kitchen"), ("in", "village"), ("in", "old barn"), ("in", "library"),
    ("at", "harbour"), ("at", "market"), ("at", "station"), ("by", "river"), ("by", "lake"), ("on", "hill"),
    ("on", "beach"), ("on", "roof"), ("under", "bridge"), ("behind", "school"),
]  # fmt: skip
_COLOURS = ["red", "blue", "green", "yellow", "golden", "silver", "orange", "white", "black", "purple"]
_QUALITIES = ["small", "old", "shiny", "heavy", "broken", "beautiful", "strange", "empty", "ancient", "tiny"]
_THINGS = [
    ("key", "keys"), ("book", "books"), ("lamp", "lamps"), ("apple", "apples"), ("egg", "eggs"), ("boat", "boats"),
    ("kite", "kites"), ("drum", "drums"), ("letter", "letters"), ("umbrella", "umbrellas"), ("box", "boxes"),
    ("shoe", "shoes"), ("stone", "stones"), ("candle", "candles"), ("knife", "knives"), ("orange", "oranges"),
    ("map", "maps"), ("clock", "clocks"), ("feather", "feathers"), ("basket", "baskets"),
]  # fmt: skip
_HOLDERS = ["cupboard", "drawer", "tree", "boat", "well", "bag", "chimney", "shed", "bucket", "cellar"]
_WEATHER = ["sunny", "rainy", "windy", "cold", "foggy", "warm", "snowy", "quiet", "stormy", "bright"]
_TIMES = ["morning", "afternoon", "evening", "night", "day"]
_MOODS = [("happy", "smiled"), ("sad", "cried"), ("tired", "yawned"), ("proud", "laughed"), ("afraid", "trembled"),
          ("angry", "frowned"), ("curious", "looked around"), ("hungry", "sighed")]  # fmt: skip
_ANIMALS = ["cat", "dog", "owl", "fox", "goat", "mouse", "crow", "horse", "rabbit", "eagle"]
_HOWS = ["slowly", "quickly", "quietly", "carefully", "suddenly", "gladly", "bravely", "softly"]
_NUMBERS = ["two", "three", "four", "five", "six", "seven"]


@dataclass(frozen=True)
class _Person:
    name: str
    she: bool

    @property
    def subject(self) -> str:
        return "she" if self.she else "he"

    @property
    def object(self) -> str:
        return "her" if self.she else "him"

    @property
    def possessive(self) -> str:
        return "her" if self.she else "his"


@dataclass(frozen=True)
class _Thing:
    """One thing or several: `first` introduces it, `again` takes it up."""

    first: str
    again: str
    plural: bool

    @property
    def was(self) -> str:
        return "were" if self.plural else "was"

    @property
    def it(self) -> str:
        return "them" if self.plural else "it"

    @property
    def subject(self) -> str:
        return "they" if self.plural else "it"


class _Story:
    """The choices of one story; each part words them in one of several ways."""

    def __init__(self, pick: random.Random):
        self.pick = pick
        self.hero, self.friend = self._people()
        self.kin = pick.choice(_KIN)
        self.thing = self._thing()
        (self.at, self.place), (self.by, self.other) = pick.sample(_PLACES, 2)
        self.holder, self.animal = pick.choice(_HOLDERS), pick.choice(_ANIMALS)
        self.mood, self.showed = pick.choice(_MOODS)
        self.how, self.weather, self.time = pick.choice(_HOWS), pick.choice(_WEATHER), pick.choice(_TIMES)

    def _people(self) -> tuple[_Person, _Person]:
        people = [_Person(name, True) for name in _SHE.split()] + [_Person(name, False) for name in _HE.split()]
        hero, friend = self.pick.sample(people, 2)
        return hero, friend

    def _thing(self) -> _Thing:
        one, many = self.pick.choice(_THINGS)
        colour, quality = self.pick.choice(_COLOURS), self.pick.choice(_QUALITIES)
        if self.pick.random() < 0.35:
            return _Thing(f"{self.pick.choice(_NUMBERS)} {quality} {colour} {many}", f"the {colour} {many}", True)
        return _Thing(f"{_article(quality)} {quality} {colour} {one}", f"the {colour} {one}", False)

    def tell(self) -> str:
        parts: list[Callable[[], list[str]]] = [
            self._opening, self._loss, self._question, self._search, self._meeting, self._finding, self._ending,
        ]  # fmt: skip
        return " ".join(_capital(self.pick.choice(part())) for part in parts)

    def _opening(self) -> list[str]:
        h, t = self.hero, self.thing
        return [
            f"one {self.weather} {self.time}, {h.name} was {self.at} the {self.place}. {h.subject} had {t.first}.",
            f"{h.name} lived near the {self.place} with {h.possessive} {self.kin}. {h.possessive} {self.kin} had given "
            f"{h.object} {t.first}.",
            f"it was a {self.weather} {self.time}, and {h.name} went to the {self.place} with {t.first}.",
            f"there was once a child called {h.name} who loved {t.first} more than anything else.",
        ]

    def _loss(self) -> list[str]:
        h, t = self.hero, self.thing
        return [
            f"but when {h.subject} looked {self.at} the {self.place}, {t.again} {t.was} gone!",
            f"then {_article(self.animal)} {self.animal} came and took {t.again} away.",
            f"{self.how}, {h.subject} put {t.again} down, and then {h.subject} could not find {t.it} any more.",
            f"{h.name} was so {self.mood} that {h.subject} forgot {t.again} {self.by} the {self.other}.",
        ]

    def _question(self) -> list[str]:
        h, f, t = self.hero, self.friend, self.thing
        be = "are" if t.plural else "is"
        return [
            f'"Where {be} {t.again}?" asked {h.name}. "I have not seen {t.it}," said {f.name}, and {f.subject} '
            f"{self.showed}.",
            f'{h.name} was {self.mood}. "Please help me," {h.subject} said to {f.name}. "I have lost {t.again}."',
            f'"Why are you so {self.mood}?" {f.name} asked {h.object}. "Because {t.again} {be} lost," said {h.name}.',
            f'{h.subject} called {f.name}. "{_capital(t.again)} {t.was} {self.at} the {self.place}," {h.subject} said, '
            f'"and now {t.subject} {be} not."',
        ]

    def _search(self) -> list[str]:
        h, f = self.hero, self.friend
        return [
            f"{h.name} and {f.name} walked {self.how} to the {self.other}, but they saw only the {self.animal}.",
            f"so they looked {self.by} the {self.other}. {f.name} searched the {self.holder}, while {h.name} asked the "
            f"{self.animal}.",
            f"they had been looking for a long time when {f.name} heard a noise {self.by} the {self.other}.",
            f"{f.name} took {h.object} by the hand, and they {self.how} followed the {self.animal} to "
            f"the {self.other}.",
        ]

    def _meeting(self) -> list[str]:
        h, f = self.hero, self.friend
        return [
            f"{_article(self.animal)} {self.animal} was sleeping there. It woke up and looked at {h.name}.",
            f'"Do not be afraid," said {f.name}. "The {self.animal} only wants to play."',
            f"the {self.animal} had been waiting for them {self.by} the {self.other}.",
            f"{h.possessive} {self.kin} was there too, and {h.subject} told {h.possessive} {self.kin} everything.",
        ]

    def _finding(self) -> list[str]:
        h, f, t = self.hero, self.friend, self.thing
        return [
            f"at last {f.name} opened the {self.holder}, and there {t.was} {t.again}!",
            f"in the {self.holder} {h.subject} found {t.again}, just as {f.name} had thought.",
            f'"Look in the {self.holder}!" cried {f.name}. {h.name} looked, and {t.again} {t.was} there.',
            f"{self.how}, the {self.animal} showed them the {self.holder}. {_capital(t.again)} {t.was} in it.",
        ]

    def _ending(self) -> list[str]:
        h, f, t = self.hero, self.friend, self.thing
        return [
            f"{h.name} thanked {f.name} and gave {f.object} one of {h.possessive} apples. Then they went home.",
            f"{h.name} was happy again. {h.subject} will never leave {t.again} {self.at} the {self.place} again.",
            f"from that {self.time} on, {h.name} and {f.name} were the best of friends, and the "
            f"{self.animal} came too.",
            f"{f.name} laughed, and {h.name} laughed with {f.object}. {_capital(t.again)} {t.was} safe at last.",
        ]


def stories(count: int, seed: int = 0) -> list[str]:
    """`count` different stories of about a hundred words each; the first ones do not depend on `count`."""
    return [text for text, _ in zip(_distinct(seed), range(count), strict=False)]


def _distinct(seed: int) -> Iterator[str]:
    pick, seen = random.Random(seed), set()
    while True:
        text = _Story(pick).tell()
        if text not in seen:
            seen.add(text)
            yield text


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _capital(text: str) -> str:
    """Every sentence begins with a capital, also within a part."""
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)
