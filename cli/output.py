"""Results on stdout: tables, JSON, TSV, TREC runs."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import click

from fastseq.errors import DataError, printable

Row = Sequence[object]
RunRow = tuple[Any, Any, int, float]  # query id, document id, rank, score

PLAIN_CELL = 60  # maximum width of a cell where the output is no terminal
GAP = 2  # spaces between two columns
NARROWEST = 12  # minimum width of a column of text


def write_rows(form: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Rows as the form "table", "tsv", "json" or "jsonl"."""
    if form == "table":
        write_table(columns, [*rows])
    elif form == "tsv":
        write_tsv(columns, rows)
    else:
        named = (dict(zip(columns, row, strict=True)) for row in rows)
        write_json([*named]) if form == "json" else write_jsonl(named)


def write_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """One line per row, every cell cut to fit; numbers right-aligned, text left-aligned.

    On a terminal, columns that do not fit are left out and named below the table.
    """
    right = [bool(rows) and all(_is_number(row[c]) for row in rows) for c in range(len(columns))]
    lines = [[one_line(value) for value in line] for line in [columns, *rows]]
    terminal = sys.stdout.isatty()
    full = shutil.get_terminal_size().columns if terminal else sys.maxsize
    if not terminal:
        lines[1:] = [[cut(cell, PLAIN_CELL) for cell in line] for line in lines[1:]]
    widths = [max(width_of(line[c]) for line in lines) for c in range(len(columns))]
    if terminal:
        widths = fitted(widths, full)
    styled = terminal and os.environ.get("TERM") != "dumb"
    for number, line in enumerate(lines):
        padded = []
        for cell, width, at_right in zip(line, widths, right, strict=False):
            cell = cut(cell, width)
            space = " " * (width - width_of(cell))
            padded.append(space + cell if at_right else cell + space)
        text = cut((" " * GAP).join(padded).rstrip(), full)
        click.echo(click.style(text, bold=True) if styled and not number else text)
    if len(widths) < len(columns):
        missing = f"Too narrow for: {', '.join(lines[0][len(widths) :])} (--format json has them)"
        note = textwrap.fill(missing, full)
        click.echo(click.style(note, dim=True) if styled else note)


def write_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one line each."""
    shown = [(name, one_line(value)) for name, value in pairs]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {value}")


def write_json(value: object) -> None:
    """One JSON value, indented."""
    click.echo(json.dumps(_jsonable(value), ensure_ascii=False, indent=2))


def write_jsonl(values: Iterable[object]) -> None:
    """One JSON value per line."""
    _write_lines(json.dumps(_jsonable(value), ensure_ascii=False) for value in values)


def write_tsv(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A header and one line per row; tabs and line breaks inside a cell become spaces."""
    _write_lines("\t".join(map(_cell, row)) for row in chain([columns], rows))


def write_trec(rows: Iterable[RunRow]) -> None:
    """A run in the six columns of TREC. Raises DataError for an id with white space."""
    lines = []
    for query, document, rank, score in rows:
        for name in (str(query), str(document)):
            if name.split() != [name]:
                raise DataError(
                    f"the TREC format cannot represent the id {name!r}: it has white space"
                )
        lines.append(f"{query} Q0 {document} {rank} {score:.9g} fastseq")
    _write_lines(lines)


def one_line(value: object) -> str:
    """A value for display, on one line and without control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    text = " ".join(printable(str(value)).split())
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def coverage_line(coverage: dict[str, int]) -> str:
    """The share of a vocabulary that has word vectors."""
    units, tokens = coverage["units"], coverage["tokens"]
    found, share = coverage["found"], coverage["tokens_found"] / max(tokens, 1)
    return f"{found:,} of {units:,} units ({found / max(units, 1):.1%}), {share:.1%} of tokens"


def width_of(text: str) -> int:
    """Terminal columns of a text: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, width: int) -> str:
    """Text cut to `width` columns, the last of which is then an ellipsis."""
    if len(text) * 2 <= width or width_of(text) <= width:
        return text
    used, shown = 0, []
    for c in text:
        used += width_of(c)
        if used > width - 1:
            break
        shown.append(c)
    return "".join(shown) + "…"


def _cell(value: object) -> str:
    return repr(value) if isinstance(value, float) else one_line(value)


def _write_lines(lines: Iterable[str]) -> None:
    # not click.echo, which flushes after every line
    sys.stdout.writelines(f"{line}\n" for line in lines)


def fitted(widest: Sequence[int], width: int) -> list[int]:
    """The widths of as many columns, from the left, as fit in `width`.

    A column needs its widest cell or NARROWEST; the rest is divided among those that are cut.
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
    """A value as JSON types: NaN and infinity as null, dates and bytes as text."""
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
