"""A pyramid as a table of text."""

from collections.abc import Iterable, Sequence

from convserve_models.arithmetic.stack import Row

_HEADINGS = (
    *("layer", "kind", "rule", "kernel", "stride", "padding", "dilation", "shape"),
    *("field", "jump", "start", "parameters", "MACs", "bytes", "FLOP/byte"),
)
_WORDS = 3


def table(rows: Sequence[Row]) -> str:
    """Lay out a pyramid in aligned columns, with its totals, then its warnings, one a line."""
    parameters, macs = sum(row.parameters for row in rows), sum(row.macs for row in rows)
    total = ("total", *[""] * 10, f"{parameters:,}", f"{macs:,}", "", "")
    cells = [_HEADINGS, *map(_cells, rows), total]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    notes = [f"{row.layer}: {warning}" for row in rows for warning in row.warnings]
    return "\n".join([*(_line(line, widths) for line in cells), *notes])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.layer,
        row.kind,
        ", ".join(dict.fromkeys(row.rules)),
        _axes(row.kernel),
        _axes(row.stride),
        _axes(before if before == after else f"{before}+{after}" for before, after in row.padding),
        _axes(row.dilation),
        _axes(row.shape),
        _axes(row.receptive_field),
        _axes(f"{jump:g}" for jump in row.jump),
        _axes(f"{start:g}" for start in row.start),
        f"{row.parameters:,}",
        f"{row.macs:,}",
        f"{row.activation_bytes:,}",
        f"{row.intensity:.2f}",
    )


def _axes(values: Iterable[object]) -> str:
    return "×".join(map(str, values))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    words = [f"{c:<{w}}" for c, w in zip(cells[:_WORDS], widths[:_WORDS], strict=True)]
    numbers = [f"{c:>{w}}" for c, w in zip(cells[_WORDS:], widths[_WORDS:], strict=True)]
    return "  ".join([*words, *numbers]).rstrip()
