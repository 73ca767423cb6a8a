"""What a cache will take on disk, array by array, and what other encodings would make of it."""

from rich.filesize import decimal
from rich.table import Table

from pipeline.request.request import Request
from pipeline.request.sizes import Sizes, array_bytes, array_rows, preset_bytes


def sizes_table(request: Request, rows: Sizes | None = None, measured: Sizes | None = None) -> Table:
    """A row for each array. `rows` and `measured` bytes stand in the place of those that are foreseen; what presets
    would make of the states is always foreseen."""
    rows = rows or array_rows(request)
    sizes, presets = measured or array_bytes(request, rows), preset_bytes(request, rows)
    table = Table("array", "rows", "measured" if measured else "size", *presets, pad_edge=False)
    table.columns[0].overflow = "fold"  # of a name that is cut off nobody knows which it is
    for column in table.columns[1:]:
        column.justify = "right"
    for array in request.manifest.arrays:
        under = [decimal(found[array.path]) if array.path in found else "" for found in presets.values()]
        table.add_row(array.path, f"{rows[array.path]:,}", decimal(sizes[array.path]), *under)
    if len(sizes) > 1:
        table.add_section()
        totals = [decimal(sum((sizes | found).values())) for found in presets.values()]
        table.add_row("all", "", decimal(sum(sizes.values())), *totals)
    return table
