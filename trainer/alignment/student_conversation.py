"""A cached conversation as the student reads it: in its own template, tied to the teacher's text by its contents.

Of every character of the student's text it is known which of the teacher's it is, if it is of a content. So all that is
said in places of the teacher's text, spans and targets, holds for the student's tokens too. Words of a template are in
neither. Costs about 0.3 ms per conversation of four turns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from schemas.cache.samples import CachedSample
from schemas.conversations.fates import shows_tools
from schemas.conversations.parts import Markers, Part, Parts
from schemas.conversations.rebuild import REASONING_KEY, Rebuilt, rebuild
from schemas.conversations.speech import Speech
from schemas.conversations.targets import find_targets
from schemas.conversations.template import ChatTemplate, TemplateRefusal
from schemas.conversations.tracked import Origin, Run, Tracked
from schemas.errors import TokenizerError

NOWHERE = -1


@dataclass(frozen=True)
class StudentConversation:
    """A conversation in the student's template. Shapes: C characters of the student's text, R targets."""

    text: str
    targets: np.ndarray  # [R, 2] int32, characters of this text
    place_C: np.ndarray  # int32: the character of the teacher's text that each is, or NOWHERE
    ends: tuple[tuple[int, tuple[int, int]], ...]  # where a turn's end marker ends, and the teacher's for that turn
    same_C: np.ndarray  # bool: up to and with this character, the student has read all that the teacher had

    def in_teacher(self, offsets_S2: np.ndarray) -> np.ndarray:
        """[S, 2]: the characters of the teacher's text that a token stands for, if it ends in a content. Otherwise, an
        empty range."""
        start_S, end_S = offsets_S2[:, 0], offsets_S2[:, 1]
        found_S2 = np.zeros_like(offsets_S2)
        padded_C = np.append(self.place_C, NOWHERE)
        last_S = padded_C[end_S - 1]
        inside_S = (start_S < end_S) & (last_S >= 0)
        first_S = np.maximum(start_S, self._run_start[np.maximum(end_S - 1, 0)])
        found_S2[inside_S, 0] = padded_C[first_S][inside_S]
        found_S2[inside_S, 1] = last_S[inside_S] + 1
        for end, theirs in self.ends:
            found_S2[(end_S == end) & (start_S < end_S)] = theirs
        return found_S2

    def same_after(self, offsets_S2: np.ndarray) -> np.ndarray:
        """[S] bool: after a token, the student has read all that the teacher had at the same place."""
        same_S: np.ndarray = np.append(self.same_C, True)[offsets_S2[:, 1] - 1]
        return same_S

    @property
    def _run_start(self) -> np.ndarray:
        """[C]: where the characters begin that follow each other up to this one in both texts."""
        begins_C = np.append(True, np.diff(self.place_C) != 1)
        starts: np.ndarray = np.maximum.accumulate(np.where(begins_C, np.arange(len(begins_C)), 0))
        return starts


class ConversationReader:
    """Reads cached conversations in one template."""

    def __init__(self, template: ChatTemplate, special_tokens: tuple[str, ...], is_teachers: bool = False):
        """`special_tokens` as the student's tokenizer spells them. `is_teachers`: this template made the cached texts.

        Raises TokenizerError: not even a question and an answer can be rendered.
        """
        try:
            self.template, self.markers = template, Markers.of(template, special_tokens)
        except TemplateRefusal as error:
            raise TokenizerError(f"a question and an answer: {error}; give another student.chat_template") from error
        self.inline, self.is_teachers = not _knows_reasoning(template), is_teachers

    def read(self, sample: CachedSample) -> StudentConversation:
        """Raises TokenizerError that names the sample: the template refuses it, or rewrites what is to be learnt."""
        rebuilt = rebuild(sample, self.inline)
        speech = Speech(self.template, rebuilt.messages, rebuilt.tools)
        try:
            rendered = speech.rendered()
        except TemplateRefusal as error:
            raise TokenizerError(
                f"sample {sample.id!r}: {error} (the student's): give it another by student.chat_template, or `plain`"
            ) from error
        parts = Parts(rendered, rebuilt.sources, speech, self.markers)
        learnt = _is_learnt(sample, rebuilt, parts)
        _require_located(sample, parts, learnt)
        return _tie(sample, rebuilt, parts, learnt)


def _knows_reasoning(template: ChatTemplate) -> bool:
    """Returns whether the template shows the reasoning of a last answer."""
    thought = Tracked.of("thought", Origin(1, "reasoning"))
    question, answer = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}
    runs = template.render([question, answer | {REASONING_KEY: thought}]).runs
    return bool(runs)


def _require_located(sample: CachedSample, parts: Parts, learnt: Callable[[Part], bool]) -> None:
    for number in range(len(parts.sources)):
        for part in parts.of(number):
            # Where tool calls stand follows from what stands around them: templates always rewrite them.
            if part.kind != "tool_calls" and not part.verbatim and learnt(part):
                raise TokenizerError(
                    f"sample {sample.id!r}: the student's chat template rewrites the {part.kind} of a message, so what "
                    "is to be learnt of it cannot be located: give another by student.chat_template, or `plain`"
                )


def _tie(sample: CachedSample, rebuilt: Rebuilt, parts: Parts, learnt: Callable[[Part], bool]) -> StudentConversation:
    runs, ends = _in_order(parts.runs, rebuilt), _ends(sample, rebuilt, parts)
    targets = find_targets(parts, range(len(rebuilt.sources)), learnt)
    end = targets[-1][1] if targets else len(parts.text)
    if sample.truncated:  # the template goes on, and the teacher's text does not
        end = min(end, max((*(run.end for run in runs), *(place for place, _ in ends)), default=0))
    place_C = np.full(end, NOWHERE, np.int32)
    for run in runs:
        if run.place is not None and run.start < end:
            length = min(run.end, end) - run.start
            place_C[run.start : run.start + length] = np.arange(run.place, run.place + length)
    ranges = np.array([(start, min(stop, end)) for start, stop in targets if start < end], np.int32).reshape(-1, 2)
    same_C = _has_read_the_same(sample, parts.text, place_C)
    same_C[_first_unlike(rebuilt, parts) :] = False
    kept = tuple(found for found in ends if found[0] <= end)
    return StudentConversation(parts.text[:end], ranges, place_C, kept, same_C)


def _has_read_the_same(sample: CachedSample, text: str, place_C: np.ndarray) -> np.ndarray:
    """[C] bool: as many characters of contents as the teacher had at the same place, blanks aside. Templates trim."""
    theirs_X = np.zeros(len(sample.text), bool)
    for turn in sample.turns:
        theirs_X[turn.start : turn.end] = turn.part in ("content", "reasoning")
    theirs_X &= ~_is_blank(sample.text)
    counts_X = np.append(0, theirs_X.cumsum())
    last_C = np.maximum.accumulate(place_C)
    own_C = (place_C >= 0) & ~_is_blank(text[: len(place_C)])
    same_C: np.ndarray = own_C.cumsum() == counts_X[last_C + 1]
    return same_C


def _is_blank(text: str) -> np.ndarray:
    return np.fromiter(map(str.isspace, text), bool, len(text))


def _first_unlike(rebuilt: Rebuilt, parts: Parts) -> int:
    """The first character behind something that the teacher was shown in words of its template, and the student is not
    at all: tools, their calls, a rewritten answer of one."""
    if rebuilt.tools and not shows_tools(parts.speech, parts.text):
        return 0
    for number, message in enumerate(rebuilt.messages):
        shown = {run.origin.field for run in parts.runs if run.origin.message == number}
        content = message["content"]
        is_rewritten = isinstance(content, Tracked) and any(run.place is None for run in content.runs)
        if ("tool_calls" in message and "tool_calls" not in shown) or (is_rewritten and "content" not in shown):
            return min((run.start for run in parts.runs if run.origin.message > number), default=len(parts.text))
    return len(parts.text)


def _ends(sample: CachedSample, rebuilt: Rebuilt, parts: Parts) -> list[tuple[int, tuple[int, int]]]:
    theirs = {turn.message: (turn.start, turn.end) for turn in sample.turns if turn.part == "end"}
    found = []
    for number, original in enumerate(rebuilt.numbers):
        own = parts.end_of_turn(number)
        if own is not None and original in theirs:
            found.append((own[1], theirs[original]))
    return found


def _is_learnt(sample: CachedSample, rebuilt: Rebuilt, parts: Parts) -> Callable[[Part], bool]:
    """Whether the teacher's counterpart of a part is a target."""
    calls = {turn.message: turn.start for turn in sample.turns if turn.part == "tool_calls"}

    def learnt(part: Part) -> bool:
        is_call = part.kind == "tool_calls"
        place = calls.get(rebuilt.numbers[part.message]) if is_call else _place(parts, part.shown[0])
        return place is not None and any(start <= place < end for start, end in sample.targets.tolist())

    return learnt


def _place(parts: Parts, character: int) -> int | None:
    for run in parts.runs:
        if run.start <= character < run.end:
            return None if run.place is None else run.place + character - run.start
    return None


def _in_order(runs: tuple[Run, ...], rebuilt: Rebuilt) -> list[Run]:
    """The runs whose places ascend as they do. What a template moves cannot be tied; answers never move, so they come
    first."""
    kept: list[Run] = []
    placed = [run for run in runs if run.place is not None]
    for run in sorted(placed, key=lambda run: rebuilt.sources[run.origin.message].role != "assistant"):
        if all(_follows(run, other) or _follows(other, run) for other in kept):
            kept.append(run)
    return sorted(kept)


def _follows(run: Run, other: Run) -> bool:
    """Returns whether a run stands behind another in both texts. A template may show a content twice."""
    return other.end <= run.start and (other.place or 0) + other.end - other.start <= (run.place or 0)
