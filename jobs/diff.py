"""`stillroom diff`: in what two caches differ, field by field and number by number."""

from pathlib import Path

from rich.table import Table

from schemas.cache.arrays import ArrayRecord
from schemas.cache.reader import Cache
from schemas.console import make_console, say
from schemas.models.state_difference import Difference, StateReader
from schemas.progress import Progress
from schemas.storage.fingerprint import differences


def show_difference(first: Path, second: Path) -> bool:
    """Print fields, samples and numbers that differ; returns whether anything does. Reads what both hold once.

    Raises CacheError: one is no cache, not sealed, or damaged where it was read.
    """
    left, right = Cache(first), Cache(second)
    fields = list(differences(left.manifest.identity, right.manifest.identity))
    for line in fields:
        line = line.replace(" found and not wanted", f" in {first} alone")
        line = line.replace(" wanted and not found", f" in {second} alone")
        say(line.replace(": found ", f": {first} has ").replace(", wanted ", f", {second} has "))
    shared = [name for name in left.positions if name in right.positions]
    alone = [len(left) - len(shared), len(right) - len(shared)]
    say(f"{len(shared):,} samples are in both, {alone[0]:,} in {first} alone, {alone[1]:,} in {second} alone")
    found = _compare(left, right, shared)
    if found:
        make_console().print(_table(found))
    same = not fields and not any(alone) and all(each.is_none for each in found.values())
    say("they hold the same" if same else "they differ")
    return not same


def _compare(left: Cache, right: Cache, shared: list[str]) -> dict[str, Difference]:
    """By what is compared: texts and tokens, and every array that both have."""
    kept = {(array.kind, array.layer): array for array in right.manifest.arrays}
    pairs = [(a, kept[a.kind, a.layer]) for a in left.manifest.arrays if (a.kind, a.layer) in kept]
    found = {"texts, tokens and spans": Difference()} | {array.path: Difference() for array, _ in pairs}
    readers = StateReader(left), StateReader(right)
    with Progress("comparing", "samples", len(shared)) as progress:
        for number, name in enumerate(shared, 1):
            places = left.position(name), right.position(name)
            samples = left.sample(places[0]), right.sample(places[1])
            found["texts, tokens and spans"].count(same=samples[0].equals(samples[1]))
            for a, b in pairs:
                _compare_rows(found[a.path], readers, places, (a, b))
            progress.update(number)
    return found


def _compare_rows(
    found: Difference,
    readers: tuple[StateReader, StateReader],
    places: tuple[int, int],
    arrays: tuple[ArrayRecord, ArrayRecord],
) -> None:
    rows = [reader.read(place, array) for reader, place, array in zip(readers, places, arrays, strict=True)]
    found.compare(*rows)


def _table(found: dict[str, Difference]) -> Table:
    table = Table("what", "rows compared", "rows that differ", "largest difference", "÷ largest number")
    for what, each in found.items():
        row = [f"{each.rows:,}", f"{each.differing:,}"]
        if each.largest is not None:
            row += [f"{each.largest:.3g}", f"{each.largest / each.size:.3g}" if each.size else ""]
        table.add_row(what, *row)
    return table
