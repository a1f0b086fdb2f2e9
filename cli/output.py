"""Results to stdout: rich tables on a terminal, plain text in a pipe, JSON, TSV."""

from __future__ import annotations

import json
import math
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import click

from fastseq.errors import DataError, printable

Row = Sequence[object]
RunRow = tuple[Any, Any, int, float]  # query id, document id, rank, score

PLAIN_CELL = 60  # columns of a cell before it is cut, where no terminal says how wide it is
GAP = 2  # columns between two cells
NARROWEST = 12  # columns below which a cell of text is not worth showing


def write_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """One line a row, every cell cut to fit. Numbers stand right, text left."""
    right = [bool(rows) and all(_is_number(row[c]) for row in rows) for c in range(len(columns))]
    cells = [[one_line(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells, right)
    else:
        _plain_table(columns, cells, right)


def write_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and what they are, one line each."""
    shown = [(name, one_line(value)) for name, value in pairs]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {value}")


def write_json(value: object) -> None:
    """One JSON value, indented."""
    click.echo(json.dumps(_jsonable(value), ensure_ascii=False, indent=2))


def write_jsonl(values: Iterable[object]) -> None:
    """One JSON value a line."""
    _write_lines(json.dumps(_jsonable(value), ensure_ascii=False) for value in values)


def write_tsv(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A header and one line a row; tabs and line breaks inside a cell become spaces."""
    _write_lines("\t".join(map(_cell, row)) for row in chain([columns], rows))


def write_rows(form: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Rows as the form "table" or "tsv"."""
    if form == "tsv":
        write_tsv(columns, rows)
    else:
        write_table(columns, rows)


def write_trec(rows: Iterable[RunRow]) -> None:
    """A run in TREC's six columns. Raises DataError for an id that they cannot hold."""
    lines = []
    for query, document, rank, score in rows:
        for name in (str(query), str(document)):
            if name.split() != [name]:
                raise DataError(f"TREC's format cannot hold the id {name!r}: it has white space")
        lines.append(f"{query} Q0 {document} {rank} {score:.9g} fastseq")
    _write_lines(lines)


def one_line(value: object) -> str:
    """A value as a person reads it, on one line and without control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    text = " ".join(printable(str(value)).split())
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def coverage_line(coverage: dict[str, int]) -> str:
    """How much of a vocabulary has word vectors."""
    units, tokens = coverage["units"], coverage["tokens"]
    found, share = coverage["found"], coverage["tokens_found"] / max(tokens, 1)
    return f"{found:,} of {units:,} units ({found / max(units, 1):.1%}), {share:.1%} of tokens"


def width_of(text: str) -> int:
    """Columns that text takes on a terminal: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, width: int) -> str:
    """Text cut to `width` columns, an ellipsis in the last when something is missing."""
    if len(text) * 2 <= width or width_of(text) <= width:
        return text
    used, kept = 0, []
    for c in text:
        used += width_of(c)
        if used > width - 1:
            break
        kept.append(c)
    return "".join(kept) + "…"


def _cell(value: object) -> str:
    return repr(value) if isinstance(value, float) else one_line(value)


def _write_lines(lines: Iterable[str]) -> None:
    # not click.echo, which flushes after every line
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _plain_table(columns: Sequence[str], cells: list[list[str]], right: list[bool]) -> None:
    lines = [list(columns), *([cut(cell, PLAIN_CELL) for cell in row] for row in cells)]
    widths = [max(width_of(line[c]) for line in lines) for c in range(len(columns))]
    for line in lines:
        padded = [
            " " * (width - width_of(cell)) + cell if r else cell + " " * (width - width_of(cell))
            for cell, width, r in zip(line, widths, right, strict=True)
        ]
        click.echo((" " * GAP).join(padded).rstrip())


def _rich_table(columns: Sequence[str], cells: list[list[str]], right: list[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    widest = [
        max([width_of(name), *(width_of(row[c]) for row in cells)])
        for c, name in enumerate(columns)
    ]
    widths = fitted(widest, console.width)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for name, width, at_right in zip(columns, widths, right, strict=False):
        table.add_column(
            Text(cut(name, width)), width=width, justify="right" if at_right else "left"
        )
    for row in cells:
        table.add_row(*(Text(cut(cell, width)) for cell, width in zip(row, widths, strict=False)))
    console.print(table)
    if len(widths) < len(columns):
        left_out = ", ".join(columns[len(widths) :])
        console.print(Text(f"Too narrow for: {left_out} (--format json has them)"), style="dim")


def fitted(widest: Sequence[int], width: int) -> list[int]:
    """The widths of as many of the columns, from the left, as fit side by side in `width`.

    A column needs its widest cell or NARROWEST; what is left goes to those cut, in equal parts.
    """
    shown, needed = 0, -GAP
    for cell in widest:
        needed += min(cell, NARROWEST) + GAP
        if needed > width and shown:
            break
        shown += 1
    widths = [min(cell, NARROWEST) for cell in widest[:shown]]
    spare = width - sum(widths) - GAP * (shown - 1)
    wanting = sorted((c for c in range(shown) if widest[c] > widths[c]), key=lambda c: widest[c])
    for done, c in enumerate(wanting):
        more = max(0, min(widest[c] - widths[c], spare // (len(wanting) - done)))
        widths[c] += more
        spare -= more
    return widths


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _jsonable(value: Any) -> Any:
    """The same value of plain JSON types: NaN and infinity as null, dates and bytes as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.item() if hasattr(value, "item") else str(value)
