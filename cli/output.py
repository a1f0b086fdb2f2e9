"""Results on stdout: tables, JSON, TSV, TREC runs."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import click

from fastseq.errors import DataError, printable
from fastseq.search.display import Row, one_line, text_table

RunRow = tuple[Any, Any, int, float]  # query id, document id, rank, score


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
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    lines, missing = text_table(columns, rows, width)
    styled = terminal and os.environ.get("TERM") != "dumb"
    for number, line in enumerate(lines):
        click.echo(click.style(line, bold=True) if styled and not number else line)
    if missing and width is not None:
        note = f"Too narrow for: {', '.join(missing)} (--format json has them)"
        note = textwrap.fill(note, width)
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


def coverage_line(coverage: dict[str, int]) -> str:
    """The share of a vocabulary that has word vectors."""
    units, tokens = coverage["units"], coverage["tokens"]
    found, share = coverage["found"], coverage["tokens_found"] / max(tokens, 1)
    return f"{found:,} of {units:,} units ({found / max(units, 1):.1%}), {share:.1%} of tokens"


def _cell(value: object) -> str:
    return repr(value) if isinstance(value, float) else one_line(value)


def _write_lines(lines: Iterable[str]) -> None:
    # not click.echo, which flushes after every line
    sys.stdout.writelines(f"{line}\n" for line in lines)


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
