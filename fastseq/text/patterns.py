"""Wildcards and regular expressions, compiled to deterministic automata over code points.

    wildcard("w?ld*")        * any characters, ? one, \\ makes the next plain
    regex("colou?r|[hk]ue")  the whole word must match

    expression = sequence ("|" sequence)*
    sequence   = (atom ["?" | "*" | "+" | "{m}" | "{m,}" | "{m,n}"] ["?"])*
    atom       = "(" ["?:"] expression ")" | "[" ["^"] (character | character "-" character)+ "]"
               | "." | character

`.` is any code point. Escapes are \\d \\D \\w \\W \\s \\S with the meaning of Python's re,
\\t \\n \\r \\f \\v, \\xhh, \\uhhhh, \\x{hhh}, and a backslash before a character that is no ASCII
letter or digit. A ? after a quantifier (lazy) changes nothing, as the whole word must match; for
the same reason ^ at the beginning and $ at the end are ignored. Not supported: backreferences,
look-around, other assertions, flags, named groups, possessive quantifiers, \\p and POSIX classes.

A pattern becomes a nondeterministic automaton (Thompson 1968, "Regular Expression Search
Algorithm") and that a deterministic one by subset construction, over classes of code points that
the pattern does not tell apart. So matching takes time linear in the word, for every pattern, and
what would take exponential time is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import NoReturn

import numpy as np

from fastseq.errors import SettingsError, quoted
from fastseq.types import UInt8, UInt16, UInt32

MOST_STATES = 10_000
MOST_STEPS = 2_000_000  # of the subset construction: about a second
_MOST_ENTRIES = 1_000_000  # of the table
_DEEPEST = 100  # nested parentheses
_LAST = 0x10FFFF
_NAMED = 0x40000  # beyond the first four planes Unicode has no letters, digits or spaces
# as in fastseq/kernels/text/vocabulary.py, which would bring Numba with it
_DEAD, _START = 0, 1
_ACCEPTS, _ALWAYS = 1, 2

Ranges = tuple[tuple[int, int], ...]  # of code points, ascending, ends included

_ANY: Ranges = ((0, _LAST),)
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
_QUANTIFIERS = {"?": (0, 1), "*": (0, None), "+": (1, None)}
_COUNTS = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
_CODE = re.compile(r"x\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})")


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """A deterministic automaton over code points. State 0 is dead, state 1 the start.

    table          uint16[S, C]  the next state, by state and class of the code point
    flags          uint8[S]      1: accepts; 2: accepts, with any further characters too
    ascii_classes  uint16[128]   the class of each ASCII character
    bounds         uint32[n]     ascending from 0: the class of the code points from bounds[i] to
    classes        uint16[n]     below bounds[i + 1] is classes[i]
    prefix         with which all matching words begin, in UTF-8
    """

    table: UInt16
    flags: UInt8
    ascii_classes: UInt16
    bounds: UInt32
    classes: UInt16
    prefix: bytes

    def matches(self, word: str) -> bool:
        """Whether it accepts a word."""
        state = _START
        for character in word:
            place = np.searchsorted(self.bounds, ord(character), "right") - 1
            state = self.table[state, self.classes[place]]
        return bool(self.flags[state] & _ACCEPTS)


@lru_cache(32)
def wildcard(pattern: str) -> Automaton:
    """The automaton of a wildcard: `*` is any characters, `?` one (a code point), and a backslash
    makes the next character plain; one at the end is itself.

    Raises SettingsError where it needs more than MOST_STATES states.
    """
    compiler = _Compiler(f"the wildcard {quoted(pattern)}")
    parts: list[_Node] = []
    characters = iter(pattern)
    for character in characters:
        compiler.check(len(parts))
        if character == "*":
            if not (parts and isinstance(parts[-1], _Repeat)):
                parts.append(_Repeat(_Chars(_ANY), 0, None))
        elif character == "?":
            parts.append(_Chars(_ANY))
        else:
            plain = next(characters, "\\") if character == "\\" else character
            parts.append(_literal(plain))
    return compiler.automaton(_Sequence(tuple(parts)))


@lru_cache(32)
def regex(pattern: str) -> Automaton:
    """The automaton of a regular expression, which the whole word must match (for the syntax see
    the top of this file).

    Raises SettingsError, with the position, for one that is not valid or not supported; and where
    it needs more than MOST_STATES states or MOST_STEPS steps to compile.
    """
    compiler = _Compiler(f"the regular expression {quoted(pattern)}")
    return compiler.automaton(_Parser(pattern, compiler).parsed())


# ---- the syntax tree


@dataclass(frozen=True, slots=True)
class _Chars:
    """One of some code points."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One after the other; none is the empty word."""

    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Any:
    """One of several (at least two)."""

    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    """`part` from `least` to `most` times; without limit for None."""

    part: _Node
    least: int
    most: int | None


_Node = _Chars | _Sequence | _Any | _Repeat


def _literal(character: str) -> _Chars:
    return _Chars(((ord(character), ord(character)),))


def _states(node: _Node) -> int:
    """The number of states that `_Compiler._build` makes of it."""
    if isinstance(node, _Chars):
        return 1
    if isinstance(node, _Repeat):
        size = _states(node.part)
        if node.most is None:
            return size * max(node.least, 1) + 1
        return size * node.most + node.most - node.least
    return sum(map(_states, node.parts)) + isinstance(node, _Any)


def _union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in ascending order, those that touch joined."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def _complement(ranges: Ranges) -> Ranges:
    edges = [-1, *(edge for pair in ranges for edge in pair), _LAST + 1]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((low + 1, high - 1) for low, high in gaps if high - low > 1)


@cache
def _named(name: str) -> Ranges:
    """The code points of \\d, \\w, \\s or of their complements, as in Python's re."""
    if name.isupper():
        return _complement(_named(name.lower()))
    every = np.arange(_NAMED, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    return tuple((found.start(), found.end() - 1) for found in re.finditer(rf"\{name}+", every))


class _Parser:
    """Recursive descent over one regular expression."""

    def __init__(self, pattern: str, compiler: _Compiler) -> None:
        self._pattern = pattern
        self._compiler = compiler
        self._at = 0
        self._depth = 0
        self._stop = len(pattern)  # without a $ at the end

    def parsed(self) -> _Node:
        """The tree of the whole pattern."""
        pattern = self._pattern
        backslashes = len(pattern[:-1]) - len(pattern[:-1].rstrip("\\"))
        if pattern.endswith("$") and backslashes % 2 == 0:
            self._stop -= 1
        self._at = int(pattern.startswith("^"))
        node = self._alternatives()
        if self._at < self._stop:
            self._fail(self._at, "a ) without (")
        return node

    @property
    def _next(self) -> str:
        """The next character, "" at the end."""
        return self._pattern[self._at] if self._at < self._stop else ""

    def _fail(self, at: int, problem: str) -> NoReturn:
        self._compiler.fail(f"is not valid at character {at + 1}: {problem}")

    def _unsupported(self, at: int, what: str) -> NoReturn:
        self._compiler.fail(f"has {what} at character {at + 1}, which is not supported")

    def _alternatives(self) -> _Node:
        parts = [self._sequence()]
        while self._next == "|":
            self._at += 1
            parts.append(self._sequence())
        sets = [part.ranges for part in parts if isinstance(part, _Chars)]
        if len(sets) == len(parts):
            return _Chars(_union(chain.from_iterable(sets)))
        return _Any(tuple(parts))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._next not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))
            self._compiler.check(len(parts))
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def _quantified(self, node: _Node) -> _Node:
        counts = self._quantifier()
        if counts is None:
            return node
        if self._next == "?":  # lazy
            self._at += 1
        elif self._next == "+":
            self._unsupported(self._at - 1, "a possessive quantifier")
        if self._next and self._next in "?*+{":
            self._fail(self._at, f"nothing to repeat before {self._next}")
        if counts[1] == 0 or _states(node) == 0:
            return _Sequence(())
        repeated = _Repeat(node, *counts)
        self._compiler.check(_states(repeated))
        return repeated

    def _quantifier(self) -> tuple[int, int | None] | None:
        """(least, most) of the quantifier that comes next; None where there is none."""
        at = self._at
        if self._next in _QUANTIFIERS:
            self._at += 1
            return _QUANTIFIERS[self._pattern[at]]
        if self._next != "{":
            return None
        found = _COUNTS.match(self._pattern, at, self._stop)
        if found is None:
            self._fail(at, "expected {m}, {m,} or {m,n}; a plain { is \\{")
        if max(len(found[1]), len(found[3] or "")) > 9:
            self._compiler.check(MOST_STATES + 1)
        self._at = found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if most is not None and most < least:
            self._fail(at, f"{found[0]} has a minimum above its maximum")
        return least, most

    def _atom(self) -> _Node:
        at, character = self._at, self._next
        self._at += 1
        if character == "(":
            return self._group(at)
        if character == "[":
            return _Chars(self._class(at))
        if character == ".":
            return _Chars(_ANY)
        if character == "\\":
            return _Chars(self._escape(at))
        if character in "?*+{":
            self._fail(at, f"nothing to repeat before {character}")
        if character in "^$":
            self._fail(at, f"{character} inside of the pattern; a plain one is \\{character}")
        return _literal(character)

    def _group(self, at: int) -> _Node:
        if self._next == "?":
            if self._pattern[self._at : self._at + 2] != "?:":
                name = self._pattern[at : at + 4]
                kind = name[2:3]
                if kind in ("=", "!") or name[2:4] in ("<=", "<!"):
                    self._unsupported(at, "look-around")
                self._unsupported(at, f"a group of the kind (?{kind}")
            self._at += 2
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(at, f"parentheses nested more than {_DEEPEST} deep")
        node = self._alternatives()
        self._depth -= 1
        if self._next != ")":
            self._fail(at, "a ( without )")
        self._at += 1
        return node

    def _class(self, at: int) -> Ranges:
        """The code points of a bracket expression that begins at `at`."""
        negated = self._next == "^"
        self._at += negated
        ranges: list[tuple[int, int]] = []
        first = self._at
        while self._next != "]" or self._at == first:
            start = self._at
            low = self._class_part(at)
            if self._next == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._class_part(at)
                if len(low) > 1 or len(high) > 1 or low[0][0] != low[0][1]:
                    self._fail(start, "a range between classes")
                if low[0][0] > high[0][1]:
                    self._fail(start, "a range whose end is before its beginning")
                low = ((low[0][0], high[0][1]),)
            ranges += low
        self._at += 1
        return _complement(_union(ranges)) if negated else _union(ranges)

    def _class_part(self, at: int) -> Ranges:
        start, character = self._at, self._next
        if not character:
            self._fail(at, "a [ without ]")
        self._at += 1
        if character == "\\":
            return self._escape(start)
        if character == "[" and self._next in (":", ".", "="):
            self._unsupported(start, "a POSIX class")
        return _literal(character).ranges

    def _escape(self, at: int) -> Ranges:
        """The code points of an escape; self._at is after the backslash."""
        character = self._next
        if not character:
            self._fail(at, "a backslash at the end")
        if found := _CODE.match(self._pattern, self._at, self._stop):
            self._at = found.end()
            code = int(next(filter(None, found.groups())), 16)
            if code > _LAST:
                self._fail(at, f"{found[0]} is beyond the last code point, 10ffff")
            return ((code, code),)
        self._at += 1
        if character in "dDwWsS":
            return _named(character)
        if character in _CONTROLS:
            character = _CONTROLS[character]
        elif character.isascii() and character.isalnum():
            if character in "123456789":
                self._unsupported(at, f"the backreference \\{character}")
            if character in "bBAzZG":
                self._unsupported(at, f"the assertion \\{character}")
            if character in "pP":
                self._unsupported(at, f"the Unicode class \\{character}")
            self._fail(at, f"an unknown escape \\{character}")
        return _literal(character).ranges


# ---- automata


class _Compiler:
    """Makes the automata of one pattern.

    State s of the nondeterministic automaton reads one of the code points of set reads[s] and goes
    to goes[s][0], or reads nothing (-1) and goes to any state of goes[s]. State 0 accepts.
    """

    def __init__(self, name: str) -> None:
        self._name = name  # of the pattern, for messages
        self._sets: dict[Ranges, int] = {}
        self._reads: list[int] = [-1]
        self._goes: list[list[int]] = [[]]
        self._steps = 0

    def fail(self, problem: str) -> NoReturn:
        raise SettingsError(f"{self._name} {problem}")

    def check(self, states: int) -> None:
        """Raise SettingsError for more than MOST_STATES states."""
        if states > MOST_STATES:
            self.fail(f"needs more than {MOST_STATES:,} states")

    def automaton(self, node: _Node) -> Automaton:
        """The deterministic automaton of a syntax tree."""
        self.check(_states(node))
        start = self._build(node, 0)
        bounds, classes, members = self._code_classes()
        classes_of: list[list[int]] = [[] for _ in self._sets]  # of each set
        for number, sets in enumerate(members):
            for each in sets:
                classes_of[each].append(number)
        rows, accepting = self._subsets(start, classes_of)
        if len(rows) * len(members) > _MOST_ENTRIES:
            self.fail(f"needs more than {_MOST_ENTRIES:,} transitions")
        table = np.zeros((len(rows), len(members)), np.uint16)
        for state, row in enumerate(rows):
            if row:
                table[state, list(row)] = list(row.values())
        flags = np.array(accepting, np.uint8) * np.uint8(_ACCEPTS)
        same = (table == np.arange(len(rows))[:, None]).all(axis=1)
        flags[same & (flags == _ACCEPTS)] |= np.uint8(_ALWAYS)
        ascii_classes = classes[np.searchsorted(bounds, np.arange(128), "right") - 1]
        prefix = _prefix(rows, accepting, bounds.tolist(), classes.tolist())
        return Automaton(table, flags, ascii_classes, bounds, classes, prefix)

    def _add(self, reads: int, goes: list[int]) -> int:
        self._reads.append(reads)
        self._goes.append(goes)
        return len(self._reads) - 1

    def _build(self, node: _Node, after: int) -> int:
        """The first state of `node` followed by the state `after`."""
        if isinstance(node, _Chars):
            return self._add(self._sets.setdefault(node.ranges, len(self._sets)), [after])
        if isinstance(node, _Sequence):
            for part in reversed(node.parts):
                after = self._build(part, after)
            return after
        if isinstance(node, _Any):
            return self._add(-1, [self._build(part, after) for part in node.parts])
        copies = node.least
        if node.most is None:
            loop = self._add(-1, [after])
            first = self._build(node.part, loop)
            self._goes[loop].append(first)
            after = first if copies else loop
            copies -= 1
        else:
            first = after
            for _ in range(node.most - node.least):
                first = self._add(-1, [self._build(node.part, first), after])
            after = first
        for _ in range(copies):
            after = self._build(node.part, after)
        return after

    def _code_classes(self) -> tuple[UInt32, UInt16, list[frozenset[int]]]:
        """(bounds, classes, the sets that each class is in): classes of code points that are in the
        same sets, as in Automaton."""
        changes: dict[int, list[int]] = {0: []}
        for ranges, number in self._sets.items():
            for low, high in ranges:
                changes.setdefault(low, []).append(number)
                changes.setdefault(high + 1, []).append(number)
        changes.pop(_LAST + 1, None)
        numbers: dict[frozenset[int], int] = {}
        current: frozenset[int] = frozenset()
        classes = []
        for at in sorted(changes):
            current = current.symmetric_difference(changes[at])
            classes.append(numbers.setdefault(current, len(numbers)))
        bounds = np.array(sorted(changes), np.uint32)
        return bounds, np.array(classes, np.uint16), list(numbers)

    def _subsets(
        self, start: int, classes_of: list[list[int]]
    ) -> tuple[list[dict[int, int]], list[bool]]:
        """(for each state the next one by class, whether each accepts), by subset construction.

        A state is the set of those states of the nondeterministic automaton that read something,
        with 0 where it accepts.
        """
        known: dict[frozenset[int], int] = {frozenset(): _DEAD}
        waiting: list[frozenset[int]] = []

        def number_of(states: frozenset[int]) -> int:
            number = known.setdefault(states, len(known))
            if number > len(waiting):
                self.check(number)
                waiting.append(states)
            return number

        number_of(self._closure((start,)))
        closed: dict[frozenset[int], int] = {}
        rows: list[dict[int, int]] = [{}]
        accepting = [False]
        for states in waiting:  # which grows
            targets: dict[int, set[int]] = {}
            for state in states:
                if state:
                    of_class = classes_of[self._reads[state]]
                    self._count(len(of_class))
                    for each in of_class:
                        targets.setdefault(each, set()).add(self._goes[state][0])
            row = {}
            for each, reached in targets.items():
                key = frozenset(reached)
                if key not in closed:
                    closed[key] = number_of(self._closure(key))
                row[each] = closed[key]
            rows.append(row)
            accepting.append(0 in states)
        return rows, accepting

    def _closure(self, states: Iterable[int]) -> frozenset[int]:
        """The states that are reached without reading, of those that read something or accept."""
        seen = set(states)
        waiting = list(seen)
        for state in waiting:  # which grows
            if self._reads[state] < 0:
                further = [other for other in self._goes[state] if other not in seen]
                seen.update(further)
                waiting += further
        self._count(len(waiting))
        return frozenset(state for state in seen if not state or self._reads[state] >= 0)

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            self.fail(f"needs more than {MOST_STEPS:,} steps to compile")


def _prefix(
    rows: list[dict[int, int]], accepting: list[bool], bounds: list[int], classes: list[int]
) -> bytes:
    """The longest UTF-8 with which all accepted words begin (for the arguments see `automaton`)."""
    single: dict[int, int | None] = {}  # the code point of each class that has only one
    for place, (low, number) in enumerate(zip(bounds, classes, strict=True)):
        after = bounds[place + 1] if place + 1 < len(bounds) else _LAST + 1
        single[number] = low if number not in single and after == low + 1 else None
    found: list[str] = []
    state = _START
    while not accepting[state] and len(rows[state]) == 1 and len(found) < len(rows):
        ((number, state),) = rows[state].items()
        code = single[number]
        if code is None:
            break
        found.append(chr(code))
    return "".join(found).encode("utf-8", "surrogatepass")
