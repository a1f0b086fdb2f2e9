"""Filters over rows given as dictionaries, in plain Python: null is None, so is an unknown truth.

A filter is a tuple: ("and", f, …), ("or", f, …), ("not", f), ("column", c), ("compare", c, sign,
literal), ("in", c, literals), ("between", c, low, high), ("like", c, pattern), ("has", c, literal),
("null", c). Numbers are Decimal, in literals too; float columns hold Python floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def both(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def no(value: bool | None) -> bool | None:
    return None if value is None else not value


def value_of(row: Mapping[str, Any], column: str) -> Any:
    if column in row:
        return row[column]
    head, tail = column.split(".", 1)
    return None if row[head] is None else value_of(row[head], tail)


def compare(value: Any, sign: str, literal: Any) -> bool | None:
    if value is None or literal is None:
        return None
    if isinstance(value, float):
        literal = float(literal)
    return {
        "=": value == literal, "!=": value != literal, "<": value < literal,
        "<=": value <= literal, ">": value > literal, ">=": value >= literal,
    }[sign]  # fmt: skip


def matches(text: str, pattern: str) -> bool:
    """Whether text is like a pattern, character by character."""
    if not pattern:
        return not text
    head, rest = pattern[0], pattern[1:]
    if head == "%":
        return any(matches(text[at:], rest) for at in range(len(text) + 1))
    if head == "\\" and rest:
        head, rest = rest[0], rest[1:]
    elif head == "_":
        return bool(text) and matches(text[1:], rest)
    return text[:1] == head and matches(text[1:], rest)


def truth(filter: tuple[Any, ...], row: Mapping[str, Any]) -> bool | None:
    """True, False or None for unknown."""
    kind, *parts = filter
    if kind == "and":
        found: bool | None = True
        for part in parts:
            found = both(found, truth(part, row))
        return found
    if kind == "or":
        return no(truth(("and", *(("not", part) for part in parts)), row))
    if kind == "not":
        return no(truth(parts[0], row))
    value = value_of(row, parts[0])
    if kind == "null":
        return value is None
    if value is None:
        return None
    if kind == "column":
        return bool(value)
    if kind == "compare":
        return compare(value, parts[1], parts[2])
    if kind == "in":
        each = [("compare", parts[0], "=", literal) for literal in parts[1]]
        return truth(("or", *each), row)
    if kind == "between":
        return both(compare(value, ">=", parts[1]), compare(value, "<=", parts[2]))
    if kind == "like":
        return matches(value, parts[1])
    assert kind == "has"
    if parts[1] is None:
        return None
    return any(element is not None and element == parts[1] for element in value)


def text_of(filter: tuple[Any, ...]) -> str:
    """A filter in fastseq's language."""
    kind, *parts = filter
    if kind in ("and", "or"):
        return f" {kind} ".join(f"({text_of(part)})" for part in parts)
    if kind == "not":
        return f"not ({text_of(parts[0])})"
    if kind == "null":
        return f"{parts[0]} is null"
    if kind == "column":
        return str(parts[0])
    if kind == "compare":
        return f"{parts[0]} {parts[1]} {literal_text(parts[2])}"
    if kind == "in":
        return f"{parts[0]} in ({', '.join(map(literal_text, parts[1]))})"
    if kind == "between":
        return f"{parts[0]} between {literal_text(parts[1])} and {literal_text(parts[2])}"
    return f"{parts[0]} {kind} {literal_text(parts[1])}"


def literal_text(literal: Any) -> str:
    if literal is None or isinstance(literal, bool):
        return "null" if literal is None else str(literal).lower()
    if isinstance(literal, Decimal):
        return str(literal)
    return "'" + str(literal).replace("'", "''") + "'"
