"""Tables for display: as lines of text that fit a terminal, and as HTML for a notebook."""

from __future__ import annotations

import html
import sys
import unicodedata
from collections.abc import Sequence

from fastseq.errors import printable

Row = Sequence[object]

PLAIN_CELL = 60  # maximum width of a cell where the width of the table is not limited
GAP = 2  # spaces between two columns
NARROWEST = 12  # minimum width of a column of text
HTML_CELL = 80  # maximum width of a cell in HTML
HTML_TITLE = 10_000  # maximum length of the text that a cut cell shows as its title


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
