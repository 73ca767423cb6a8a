"""What encoding cost a cache, as its shards say it."""

from collections.abc import Callable, Sequence

from rich.table import Table

from schemas.cache.encoding_cost import EncodingCost


def costs_table(costs: Sequence[tuple[str, Sequence[EncodingCost]]]) -> Table:
    """A row for each encoded array, of the costs of every shard with rows of it."""
    table = Table("encoded", "bits", "kept raw", "KL mean", "p99", "worst", "geometry", "cosine", pad_edge=False)
    for path, every in costs:
        held = [cost for cost in every if cost.rows]
        rows, raw = sum(cost.rows for cost in held), sum(cost.raw for cost in held)
        table.add_row(
            path,
            _mean(held, lambda cost: cost.bits, lambda cost: cost.rows, "{:.2f}"),
            f"{raw:,} ({raw / max(1, rows):.2%})" if raw else "0",
            _mean(held, lambda cost: cost.kl_mean, lambda cost: cost.predicted, "{:.4f}"),
            _mean(held, lambda cost: cost.kl_p99, lambda cost: cost.predicted, "{:.3f}"),
            _worst(held),
            _mean(held, lambda cost: cost.geometry, lambda cost: cost.measured, "{:.1%}"),
            _mean(held, lambda cost: cost.cosine, lambda cost: cost.measured, "{:.4f}"),
        )
    predicted = max((sum(cost.predicted for cost in every) for _, every in costs), default=0)
    measured = max((sum(cost.measured for cost in every) for _, every in costs), default=0)
    table.caption = (
        f"KL(teacher || decoded) in nats, of up to {predicted:,} states (99th percentiles: the shards' mean); "
        f"geometry: the error of centred cosines between spans by their spread, of up to {measured:,} states"
    )
    table.caption_justify = "left"
    return table


def _mean(
    costs: Sequence[EncodingCost],
    value: Callable[[EncodingCost], float | None],
    weight: Callable[[EncodingCost], int],
    form: str,
) -> str:
    """The mean over shards, each of its own weight; empty if none says anything."""
    known = [(found, weight(cost)) for cost in costs if (found := value(cost)) is not None]
    total = sum(weight for _, weight in known)
    return _shown(sum(found * weight for found, weight in known) / total, form) if total else ""


def _worst(costs: Sequence[EncodingCost]) -> str:
    found = [cost.kl_worst for cost in costs if cost.kl_worst is not None]
    return _shown(max(found), "{:.2f}") if found else ""


def _shown(value: float, form: str) -> str:
    """As a form has it, but never a 0 that is none: packed distributions lose little."""
    text = form.format(value)
    return f"{value:.0e}" if value and not text.strip("0.") else text
