"""JSON lines: one object per line."""

from collections.abc import Iterator

from schemas.errors import CorpusError
from schemas.texts.format import Format, Record, Source
from schemas.texts.json_text import parse_json
from schemas.texts.lines import decode, read_lines


class JsonLines(Format):
    """Blank lines are passed over; a key that is given twice is refused, because JSON lets the last one win."""

    name, suffixes, compressible = "json_lines", (".jsonl", ".json", ".ndjson"), True

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        """See `Format.read`."""
        for number, line in read_lines(source):
            if not line or line.isspace():
                continue
            place = f"{source.path}:{number}"
            text = decode(line, source.path, number)
            record = parse_json(text, place, _hint)
            if not isinstance(record, dict):
                kind = type(record).__name__
                raise CorpusError(f"{place}: a record is a JSON object, this is a {kind}{_hint(text)}")
            yield number, record


FORMAT = JsonLines()


def _hint(line: str) -> str:
    if line.lstrip()[:1] == "[":
        return "; one object per line is wanted, and this looks like one long array: `jq -c '.[]'` turns it into lines"
    if line.strip() == "{":
        return "; one object per line is wanted, and this one seems to span several: `jq -c .` puts it on one"
    return ""
