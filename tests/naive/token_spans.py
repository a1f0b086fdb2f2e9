"""Where tokens are in a text, in plain Python: (token, start, end) in code points."""

from __future__ import annotations

import re
from itertools import groupby

from tests.naive.text import fold, script

Token = tuple[str, int, int]


def mapped(text: str, fold_accents: bool) -> list[Token]:
    """The characters of the text, lower-cased and folded, with the characters they come from; one
    that is removed belongs to the one before."""
    found: list[Token] = []
    for at, character in enumerate(text):
        changed = fold(character.lower()) if fold_accents else character.lower()
        if not changed and found:
            found[-1] = (*found[-1][:2], at + 1)
        found += [(one, at, at + 1) for one in changed]
    return found


def joined(characters: list[Token]) -> Token:
    return "".join(one for one, _, _ in characters), characters[0][1], characters[-1][2]


def words(text: str, bigrams: bool, fold_accents: bool) -> list[Token]:
    """tokenizer="word"."""
    found: list[Token] = []

    def kind(character: Token) -> str | None:
        if not re.match(r"\w", character[0]):
            return None
        return script(character[0]) if bigrams else ""

    for what, run in groupby(mapped(text, fold_accents), kind):
        characters = list(run)
        if what == "":
            found += [joined(characters)] if len(characters) > 1 else []
        elif what is not None:
            ends = range(2, len(characters) + 1) if len(characters) > 1 else [1]
            found += [joined(characters[max(end - 2, 0) : end]) for end in ends]
    return found


def visible(text: str, fold_accents: bool) -> list[Token]:
    """tokenizer="space"."""
    runs = groupby(mapped(text, fold_accents), lambda character: character[0].isspace())
    return [joined(list(run)) for is_space, run in runs if not is_space]


def characters(text: str, fold_accents: bool) -> list[Token]:
    """tokenizer="char"."""
    return [one for one in mapped(text, fold_accents) if not one[0].isspace()]
