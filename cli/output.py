"""Results on stdout: tables, JSON, TSV, TREC runs."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any

import click

from fastseq.errors import DataError, printable
from fastseq.search.display import Row, json_text, one_line, text_table

RunRow = tuple[Any, Any, int, float]  # query id, document id, rank, score
_SEPARATOR = re.compile("[\t\n\r]")  # of cells or lines of TSV


def write_rows(
    form: str, columns: Sequence[str], rows: Iterable[Row], ids: Collection[int] = ()
) -> None:
    """Rows as the form "table", "tsv", "json" or "jsonl"; `ids` as of write_tsv."""
    if form == "table":
        write_table(columns, [*rows])
    elif form == "tsv":
        write_tsv(columns, [*rows], ids)
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
    click.echo(json_text(value, indent=2))


def write_jsonl(values: Iterable[object]) -> None:
    """One JSON value per line."""
    _write_lines(map(json_text, values))


def write_tsv(columns: Sequence[str], rows: Iterable[Row], ids: Collection[int] = ()) -> None:
    """A header and one line per row. Lists and mappings are JSON; other text is on one line, with
    single spaces in place of white space, but in the columns numbered `ids` it is written as it is.

    Raises DataError for an id with a tab or a line break; of a list of rows before any is written.
    """
    exact = [number in ids for number in range(len(columns))]
    lines = ("\t".join(map(_cell, row, exact)) for row in rows)
    header = "\t".join(map(one_line, columns))
    _write_lines([header, *lines] if isinstance(rows, list) else chain([header], lines))


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


def _cell(value: object, exact: bool) -> str:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | dict):
        return json_text(value)
    if not (exact and isinstance(value, str)):
        return one_line(value)
    if _SEPARATOR.search(value):
        raise DataError(
            f"TSV cannot represent the id {value!r}, which has a tab or a line break: use "
            "--format json"
        )
    return printable(value)


def _write_lines(lines: Iterable[str]) -> None:
    # not click.echo, which flushes after every line
    sys.stdout.writelines(f"{line}\n" for line in lines)
