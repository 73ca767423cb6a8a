"""Tying a student's tokens to the teacher's by the characters they stand for. NumPy only: it runs for every sample of
every batch, and costs about 0.05 ms for 300 tokens per side.

Offsets are character ranges [start, end) in the sample's text, as fast tokenizers give them; a zero-width range marks a
special token. Labels say which span each token belongs to, -1 for none.

Shapes: T teacher tokens, S student tokens, K spans.
"""

import numpy as np

from schemas.errors import PairingError, TokenizerError


def check_offsets(offsets: np.ndarray, text_length: int) -> None:
    """Offsets [S, 2] that everything below may rely on: 0 <= start <= end <= text_length, and ends that never go back.

    Raises TokenizerError naming the first token that breaks a rule.
    """
    starts, ends = offsets[:, 0], offsets[:, 1]
    outside = np.flatnonzero((starts < 0) | (starts > ends) | (ends > text_length))
    if outside.size:
        place = int(outside[0])
        raise TokenizerError(
            f"token {place} claims characters {starts[place]} to {ends[place]} of a text of {text_length}: "
            "this tokenizer's offsets cannot be used; try another version of it"
        )
    furthest = np.maximum.accumulate(_ends(offsets))
    back = np.flatnonzero((starts < ends) & (ends < furthest))
    if back.size:
        place = int(back[0])
        raise TokenizerError(
            f"token {place} ends at character {ends[place]}, before an earlier token's end at {furthest[place]}: "
            "this tokenizer reorders the text, and its offsets cannot be aligned"
        )


def aligned_spans(
    teacher_offsets: np.ndarray,
    student_offsets: np.ndarray,
    targets: np.ndarray | None = None,
    max_spans: int | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """The finest spans that both tokenizations agree on (SRA, section 3): teacher labels [T], student labels [S], K.

    E is the sorted intersection of both sides' end offsets, and span i is the tokens of either side that end in
    (E_{i-1}, E_i]. Ends decide, never starts: tokenizers differ in who owns a leading space. Every span has tokens on
    both sides; labels are int64, ascend from 0 to K-1, and are -1 for special tokens and past the last common end.

    - An end inside another token is not a boundary. Byte-level BPE may close a token in the middle of a character and
      open the next one there; normalisers spread one character over two tokens. A character so stands in one span only.
    - `targets`, ranges of characters, keep out tokens that end in none of them. A token across a range's start ends in
      it and belongs to it, as it does among cross-entropy's targets, with the characters before that it holds (mostly
      one space). No span reaches from one range into another. Without `targets`, spans are of the whole text.
    - More than `max_spans` are merged uniformly, each range's among themselves; see `shared_out`.
    """
    teacher_ends, student_ends = _ends(teacher_offsets), _ends(student_offsets)
    size = max(teacher_ends.max(initial=0), student_ends.max(initial=0)) + 1
    boundary = _marks(teacher_ends, size) & _marks(student_ends, size)
    ranges = [[0, size]] if targets is None else targets.tolist()
    boundary &= _inside(ranges, size)
    _unmark_inside_tokens(boundary, teacher_offsets, teacher_ends)
    _unmark_inside_tokens(boundary, student_offsets, student_ends)
    boundaries = [start + 1 + np.flatnonzero(boundary[start + 1 : end + 1]) for start, end in ranges]
    count = int(boundary.sum())
    spans = np.cumsum(boundary) - boundary
    if max_spans is not None and count > max_spans:
        group_K, count = shared_out([len(own) for own in boundaries], max_spans)
        spans = group_K[spans]
    span_of_end = np.full(size, -1, np.int64)  # looking an end up beats searching for it
    for (start, _), own in zip(ranges, boundaries, strict=True):
        if len(own):
            span_of_end[start + 1 : own[-1] + 1] = spans[start + 1 : own[-1] + 1]
    return span_of_end[teacher_ends], span_of_end[student_ends], count


def shared_out(spans_of_range: list[int], most: int) -> tuple[np.ndarray, int]:
    """Which group each of n spans goes to, if there may be `most` < n groups: [n + 1], of which the last is no span's.

    Range r with n_r spans has q_r = max(1, most * n_r // n) groups, and its span i goes to its group i * q_r // n_r. So
    no group reaches from one range into another, and the groups of a range differ by one span at most. There are more
    than `most` only if ranges are too short for a group of their own: by up to one for each of these.
    """
    total, first = sum(spans_of_range), 0
    groups = []
    for own in filter(None, spans_of_range):
        share = max(1, most * own // total)
        groups.append(first + np.arange(own) * share // own)
        first += share
    return np.append(np.concatenate(groups), first), first


def coverage(offsets: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> float:
    """The share of the characters in `targets` that aligned spans cover; 1 if there are no characters.

    The same from the teacher's offsets and labels as from the student's. Below 1 where one side stops early: cut by a
    limit, or a tokenizer that drops what a range ends with.
    """
    if not len(targets):
        return 1.0
    ends, covered = _ends(offsets)[labels >= 0], 0
    for start, end in targets.tolist():
        covered += int(ends[ends <= end].max(initial=start)) - start
    return covered / int((targets[:, 1] - targets[:, 0]).sum())


def resolve_overlaps(spans: np.ndarray) -> np.ndarray:
    """Character spans [n, 2] without overlaps, in order of their start: the longest win, and of equals the first in the
    text (MTA). Empty spans are dropped."""
    spans = spans[spans[:, 0] < spans[:, 1]]
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    if not (spans[1:, 0] < spans[:-1, 1]).any():
        return spans
    taken = bytearray(int(spans[:, 1].max()))
    kept = np.zeros(len(spans), bool)
    for place in np.argsort(spans[:, 0] - spans[:, 1], kind="stable").tolist():
        begin, end = spans[place].tolist()
        if taken.find(1, begin, end) < 0:
            taken[begin:end] = b"\1" * (end - begin)
            kept[place] = True
    return spans[kept]


def span_labels(offsets: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Labels [T] int64: the span (start, end] in which each token ends; -1 for none and for special tokens.

    `spans` [K, 2] must be as `resolve_overlaps` leaves them: in order and disjoint.
    """
    ends = _ends(offsets)
    if not len(spans):
        return np.full(len(ends), -1, np.int64)
    place = np.searchsorted(spans[:, 1], ends)
    inside = place < len(spans)
    inside &= ends > spans[np.minimum(place, len(spans) - 1), 0]
    labels: np.ndarray = np.where(inside, place, -1)
    return labels


def common_spans(
    teacher_labels: np.ndarray, student_labels: np.ndarray, num_spans: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Drops spans without tokens on both sides and renumbers the rest 0..K-1 in order: labels [T], labels [S] and K."""
    on_teacher, on_student = np.zeros((2, num_spans + 1), bool)
    on_teacher[teacher_labels] = True
    on_student[student_labels] = True
    common = on_teacher & on_student
    common[-1] = False  # where label -1 points to
    renumbered = np.where(common, np.cumsum(common) - 1, -1)
    return renumbered[teacher_labels], renumbered[student_labels], int(common.sum())


def pair_tokens(teacher_ids: np.ndarray, student_ids: np.ndarray) -> np.ndarray:
    """[S] int64, for one shared tokenizer: teacher token s is student token s; -1 past the teacher's last.

    Raises PairingError naming the first position where the two differ.
    """
    length = min(len(teacher_ids), len(student_ids))
    differs = np.flatnonzero(teacher_ids[:length] != student_ids[:length])
    if differs.size:
        place = int(differs[0])
        raise PairingError(
            f"token {place} is {teacher_ids[place]} in the cache and {student_ids[place]} in the student's tokenizer: "
            "token pairs need one tokenizer with the same special tokens on both sides; use a loss over spans instead"
        )
    pairs = np.arange(len(student_ids))
    pairs[length:] = -1
    return pairs


def pair_contents(
    teacher_ids: np.ndarray,
    teacher_offsets: np.ndarray,
    student_ids: np.ndarray,
    student_offsets: np.ndarray,
    same: np.ndarray,
) -> np.ndarray:
    """[S] int64, for one tokenizer and two chat templates: the teacher's token of the same characters and the same id,
    where `same` [S] says that both have read the same contents up to it; -1 for others, such as the templates' own.

    What a pair predicts must be a pair, too: the last token before words of a template is left out, because these
    differ. Offsets are of one text, as `aligned_spans` takes them.
    """
    teacher_T, student_S = _name(teacher_ids, teacher_offsets, student_ids, student_offsets)
    order_T = np.argsort(teacher_T)
    place_S = np.searchsorted(teacher_T[order_T], student_S).clip(max=max(0, len(order_T) - 1))
    pairs = np.full(len(student_ids) + 1, -1)
    if len(order_T):
        candidate_S = order_T[place_S]
        pairs[:-1] = np.where((teacher_T[candidate_S] == student_S) & (student_S >= 0) & same, candidate_S, -1)
    goes_on = (pairs[:-1] >= 0) & (pairs[1:] == pairs[:-1] + 1)
    found: np.ndarray = np.where(goes_on, pairs[:-1], -1)
    return found


def _name(
    teacher_ids: np.ndarray, teacher_offsets: np.ndarray, student_ids: np.ndarray, student_offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[T] and [S] int64: what tells a token of a content from others of its side, and is the same on both: its
    characters, which of several with these it is, and its id. -1 for a token without characters."""
    offsets = np.concatenate([teacher_offsets, student_offsets]).astype(np.int64)
    ids = np.concatenate([teacher_ids, student_ids]).astype(np.int64)
    _, characters = np.unique((offsets[:, 0] << 32) | offsets[:, 1], return_inverse=True)
    sides = np.split(characters, [len(teacher_ids)])
    nth = np.concatenate([_count_up(side) for side in sides])
    names = (characters * (nth.max(initial=0) + 1) + nth) * (ids.max(initial=0) + 1) + ids
    teacher_T, student_S = np.split(np.where(offsets[:, 0] < offsets[:, 1], names, -1), [len(teacher_ids)])
    return teacher_T, student_S


def _count_up(values: np.ndarray) -> np.ndarray:
    """[n]: how many equal ones stand before each."""
    order, place = np.argsort(values, kind="stable"), np.arange(len(values))
    is_first = np.append(True, np.diff(values[order]) != 0)[: len(values)]
    counts = np.empty_like(place)
    counts[order] = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return counts


def _ends(offsets: np.ndarray) -> np.ndarray:
    """End offsets, 0 for zero-width tokens: no span ends there."""
    return np.where(offsets[:, 0] < offsets[:, 1], offsets[:, 1], 0).astype(np.int64)  # the fastest index dtype


def _marks(ends: np.ndarray, size: int) -> np.ndarray:
    marks = np.zeros(size, bool)
    marks[ends] = True
    return marks


def _inside(ranges: list[list[int]], size: int) -> np.ndarray:
    """[size] bool: a token that ends there belongs to a range."""
    inside = np.zeros(size, bool)
    for start, end in ranges:
        inside[start + 1 : end + 1] = True
    return inside


def _unmark_inside_tokens(boundary: np.ndarray, offsets: np.ndarray, ends: np.ndarray) -> None:
    starts, before = offsets[1:, 0], np.maximum.accumulate(ends)[:-1]
    for place in np.flatnonzero((starts < before) & (before < ends[1:])).tolist():
        boundary[starts[place] + 1 : ends[place + 1]] = False
