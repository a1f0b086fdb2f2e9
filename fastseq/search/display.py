"""Tables for display: as lines of text that fit a terminal, and as HTML for a notebook."""

from __future__ import annotations

import html
import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from fastseq.errors import printable

Row = Sequence[object]

PLAIN_CELL = 60  # maximum width of a cell where the width of the table is not limited
SNIPPET_LENGTH = 160  # code points
GAP = 2  # spaces between two columns
NARROWEST = 12  # minimum width of a column of text
HTML_CELL = 80  # maximum width of a cell in HTML
HTML_TITLE = 10_000  # maximum length of the text that a cut cell shows as its title
# control characters, and the embeddings, overrides and isolates of bidirectional text
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_JOINER = "\u200d"
_VOWELS_AND_FINALS = ("\u1160", "\u11ff")  # of Hangul syllables in several characters
_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")
_REGIONAL = ("\U0001f1e6", "\U0001f1ff")  # a pair is a flag


def text_table(
    columns: Sequence[str], rows: Sequence[Row], width: int | None
) -> tuple[list[str], list[str]]:
    """The lines of a table, header first, and the names of the columns that do not fit.

    Every cell is on one line and cut to fit; numbers are right-aligned, text is left-aligned.

    width : of the terminal; None: not limited, and each cell is cut to PLAIN_CELL
    """
    right = _numeric(columns, rows)
    lines = [[one_line(value) for value in line] for line in [columns, *rows]]
    if width is None:
        lines[1:] = [[cut(cell, PLAIN_CELL) for cell in line] for line in lines[1:]]
    widths = [max(width_of(line[c]) for line in lines) for c in range(len(columns))]
    if width is not None:
        widths = fitted(widths, width)
    table = []
    for line in lines:
        padded = []
        for cell, column, at_right in zip(line, widths, right, strict=False):
            cell = cut(cell, column)
            space = " " * (column - width_of(cell))
            padded.append(space + cell if at_right else cell + space)
        table.append(cut((" " * GAP).join(padded).rstrip(), width or sys.maxsize))
    return table, lines[0][len(widths) :]


def html_table(columns: Sequence[str], rows: Sequence[Row], caption: str = "") -> str:
    """A table in HTML, every text escaped. A cell is cut to HTML_CELL, and its whole text, up to
    HTML_TITLE, is then its title."""
    styles = [' style="text-align: right"' if right else "" for right in _numeric(columns, rows)]
    lines = ["<table>"]
    if caption:
        lines.append(f"<caption>{html.escape(caption)}</caption>")
    cells = "".join(
        f"<th{style}>{_html_text(name)}</th>" for name, style in zip(columns, styles, strict=True)
    )
    lines += [f"<thead><tr>{cells}</tr></thead>", "<tbody>"]
    for row in rows:
        cells = ""
        for value, style in zip(row, styles, strict=True):
            text = one_line(value)
            shown = cut(text, HTML_CELL)
            title = "" if shown == text else f' title="{_html_text(text, HTML_TITLE)}"'
            cells += f"<td{style}{title}>{html.escape(shown)}</td>"
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])


def json_text(value: object, indent: int | None = None) -> str:
    """A value as JSON."""
    return json.dumps(_jsonable(value), ensure_ascii=False, indent=indent)


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


def one_line(value: object) -> str:
    """A value for display, on one line; lists and mappings are JSON. What controls a terminal is
    U+FFFD; joiners, soft hyphens and other characters without a glyph stay, since words and emoji
    are written with them."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    text = json_text(value) if isinstance(value, list | dict) else printable(str(value))
    return without_controls(" ".join(text.split()))


def without_controls(text: str) -> str:
    """The text with U+FFFD in place of what controls a terminal, line ends among it."""
    return _CONTROLS.sub("\ufffd", text)


def width_of(text: str) -> int:
    """Terminal columns of a text: two for wide characters, none for marks above or below another
    character and for format characters."""
    return len(text) if text.isascii() else sum(map(_width, text))


@lru_cache(1 << 12)
def _width(character: str) -> int:
    low, high = _VOWELS_AND_FINALS
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or low <= character <= high:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Text cut to `width` columns, the last of which is then an ellipsis, and not inside of a
    character of several code points: before its marks, in an emoji sequence."""
    if len(text) * 2 <= width or width_of(text) <= width:
        return text
    if text.isascii():
        return f"{text[: max(width - 1, 0)]}…"
    used, shown = 0, []
    for cluster in _clusters(text):
        used += width_of(cluster)
        if used > width - 1:
            break
        shown.append(cluster)
    return "".join(shown) + "…"


@lru_cache(1 << 12)
def _is_mark(character: str) -> bool:
    """Whether a character belongs to the one before it."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") or any(
        low <= character <= high for low, high in (_VOWELS_AND_FINALS, _SKIN_TONES)
    )


def is_inside_character(text: str, at: int) -> bool:
    """Whether a cut of the text at a code point is inside of a character of several: before a mark,
    in an emoji sequence, or between two regional indicators."""
    if not 0 < at < len(text):
        return False
    low, high = _REGIONAL
    before, after = text[at - 1], text[at]
    return _is_mark(after) or before == _JOINER or (low <= before <= high and low <= after <= high)


def _clusters(text: str) -> Iterator[str]:
    """The parts of a text that are not cut: the grapheme clusters of UAX #29, approximately."""
    start, regional = 0, False
    for at, c in enumerate(text):
        is_regional = _REGIONAL[0] <= c <= _REGIONAL[1]
        extends = _is_mark(c) or text[at - 1 : at] == _JOINER or (is_regional and regional)
        if at and not extends:
            yield text[start:at]
            start = at
        regional = is_regional and not extends
    if text:
        yield text[start:]


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


def _html_text(value: object, width: int = HTML_CELL) -> str:
    return html.escape(cut(one_line(value), width))


def _numeric(columns: Sequence[str], rows: Sequence[Row]) -> list[bool]:
    """Whether each column has numbers only."""
    return [bool(rows) and all(_is_number(row[c]) for row in rows) for c in range(len(columns))]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
