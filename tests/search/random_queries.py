"""Random small indexes and random queries of them, for the engine and for the naive evaluator.

A query is drawn as a nested tuple of texts (`Spec`), from which `value_of` makes a value of
fastseq.query and `tuple_of` a query of tests/naive/queries.py, with the tokens of an analyzer in
plain Python. Equal seeds give equal indexes and queries.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import Stemmer

from fastseq import Analyzer, Index, query
from tests.naive import character_groups, filters, queries, words

Spec = tuple[Any, ...]
Row = dict[str, Any]

STOP_WORDS = ("the", "of", "a")
ANALYZERS = {
    "unicode": Analyzer(),
    "english": Analyzer(stopwords=STOP_WORDS, stemmer="english"),
    "space": Analyzer(tokenizer="space"),
}
WORDS = [
    "cat", "cats", "cart", "care", "cared", "caring", "dog", "dogs", "do", "od", "the", "of", "a",
    "tea", "eat", "ate", "naïve", "é", "x1", "1.5", "Cat", "DOG", "猫", "猫犬", "犬猫鳥", "鳥",
    "猫猫", "ねこ", "東京都庁", "고양이",
]  # fmt: skip
ABSENT = ["never", "zebra", "caterpillar", "虎", "犬虎"]
LANGUAGES = ["en", "de", "fr", "pt-BR"]
TAGS = ["x", "y", "z"]
FIELDS = [None, "title", "body"]
SCHEMA = pa.schema([
    ("id", pa.int64()), ("title", pa.string()), ("body", pa.string()), ("year", pa.int32()),
    ("weight", pa.float64()), ("lang", pa.string()), ("tags", pa.list_(pa.string())),
])  # fmt: skip
COLUMNS = ["year", "weight", "lang", "tags"]

_stem = Stemmer.Stemmer("english").stemWord


@lru_cache(1 << 12)
def analysed(analyzer: str, text: str) -> tuple[tuple[str, str | None], ...]:
    """The words of a text as written, and their tokens; None for a removed word."""
    found: list[tuple[str, str | None]] = []
    for part in text.split():
        if analyzer == "space":
            found.append((part.lower(), part.lower()))
            continue
        for word in words.tokens(part):
            if analyzer == "unicode":
                found.append((word, word))
            else:
                found.append((word, None if word in STOP_WORDS else _stem(word)))
    return tuple(found)


# ---- indexes


@dataclass
class RandomIndex:
    """What an index is built of.

    analyzer   its name in ANALYZERS
    positions  whether they are stored
    changes    the rows of each addition, the first of which builds the index, and lists of ids to
               delete
    rows       all rows that were ever added, in order
    live       whether each is still there
    reorder    whether the segment of each addition is reordered when it is added
    """

    analyzer: str
    positions: bool
    vocabulary: list[str]
    changes: list[list[Row] | list[int]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    live: list[bool] = field(default_factory=list)
    reorder: list[bool] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [row["id"] for row in self.rows]

    def build(self, path: Path) -> Index:
        index = None
        reorder = iter(self.reorder)
        for change in self.changes:
            if change and isinstance(change[0], int):
                assert index is not None
                index.delete(change, threads=1)
                continue
            table = pa.Table.from_pylist(change, schema=SCHEMA)
            if index is not None:
                index.add(table, threads=1)
                if next(reorder, False):
                    reorder_last(index)
                continue
            index = Index.build(
                table, path, text_columns=["title", "body"], fields=["title", "body"],
                analyzer=ANALYZERS[self.analyzer], positions=self.positions, threads=1,
                reorder=next(reorder, False),
            )  # fmt: skip
        assert index is not None
        return index

    def corpus(self) -> queries.Corpus:
        documents: list[queries.Document] = []
        written: list[queries.Document] = []
        for row in self.rows:
            columns = [analysed(self.analyzer, row[name] or "") for name in ("title", "body")]
            tokens = [[token for _, token in column] for column in columns]
            raw = [[word for word, _ in column] for column in columns]
            documents.append({None: tokens, "title": tokens[:1], "body": tokens[1:]})
            written.append({None: raw, "title": raw[:1], "body": raw[1:]})
        stored = [{name: _stored(row[name]) for name in COLUMNS} for row in self.rows]
        return queries.Corpus(documents, written, stored, self.live)


def reorder_last(index: Index) -> None:
    """Reorder the last segment of an index alone."""
    with index.writer(threads=1) as writer:
        writer._merge(len(writer._parts) - 1, len(writer._parts), reorder=True)


def _stored(value: Any) -> Any:
    return Decimal(value) if isinstance(value, int) else value


def random_index(chance: random.Random) -> RandomIndex:
    """One to forty documents of one to four additions, some of them deleted or replaced."""
    some = chance.sample(WORDS, chance.randint(12, len(WORDS)))
    analyzer = chance.choices(list(ANALYZERS), [6, 3, 1])[0]
    found = RandomIndex(analyzer, chance.random() < 0.9, some)
    found.reorder = [chance.random() < 0.3 for _ in range(4)]
    weights = [1 / (n + 1) for n in range(len(some))]

    def text() -> str | None:
        kind = chance.random()
        if kind < 0.1:
            return chance.choice([None, "", "the of"])
        if kind < 0.13:
            word = chance.choice(some)
            return " ".join([word] * chance.choice([15, 16, 255, 260]) + [some[0]])
        size = chance.randint(12, 30) if kind < 0.3 else chance.randint(1, 8)
        return " ".join(chance.choices(some, weights, k=size))

    def row(id: int) -> Row:
        tags = [chance.choice([*TAGS, None]) for _ in range(chance.randrange(3))]
        return {
            "id": id,
            "title": text(),
            "body": text(),
            "year": chance.choice([None, *range(1998, 2006)]),
            "weight": chance.choice([None, -1.5, 0.0, 0.25, 2.5]),
            "lang": chance.choice([None, *LANGUAGES]),
            "tags": chance.choice([None, tags]),
        }

    position_of: dict[int, int] = {}

    def add(ids: list[int]) -> None:
        rows = [row(id) for id in ids]
        for each in rows:
            if each["id"] in position_of:
                found.live[position_of[each["id"]]] = False
            position_of[each["id"]] = len(found.rows)
            found.rows.append(each)
            found.live.append(True)
        found.changes.append(rows)

    ids = iter(range(1000))
    add([next(ids) for _ in range(chance.choices([1, 3, 10, 20], [1, 2, 4, 4])[0])])
    for _ in range(chance.randrange(4)):
        known = list(position_of)
        new = [next(ids) for _ in range(chance.randint(1, 7))]
        if known and chance.random() < 0.3:
            new += chance.sample(known, min(2, len(known)))
        add(new)
        if chance.random() < 0.6:
            known = list(position_of)
            gone = chance.sample(known, chance.randint(1, max(1, len(known) // 3)))
            for id in gone:
                found.live[position_of.pop(id)] = False
            found.changes.append(gone)
    return found


# ---- queries


class RandomQueries:
    """Draws queries of an index."""

    def __init__(self, chance: random.Random, index: RandomIndex) -> None:
        self._chance = chance
        self._analyzer = index.analyzer
        third = len(index.vocabulary) // 3  # the vocabulary begins with the most frequent words
        frequent = index.vocabulary[:third] * 4
        self._words = [*frequent, *index.vocabulary, *ABSENT]
        self._single = [
            word
            for word in self._words
            if [token is not None for _, token in analysed(index.analyzer, word)] == [True]
        ]
        texts = [row[name] for row in index.rows for name in ("title", "body")]
        self._texts = [text.split() for text in texts if text]

    def query(self, depth: int = 4) -> Spec:
        """A query of at most `depth` levels of other queries."""
        chance = self._chance
        if depth == 0 or chance.random() < 0.8 - 0.13 * depth:
            return self._leaf()
        kind = chance.random()
        if kind < 0.1:
            factor = chance.choice([0.0, 0.5, 1.0, 2.0, 3.7])
            return "boost", self.query(depth - 1), factor
        if kind < 0.15:
            return "constant", self.query(depth - 1), chance.choice([0.0, 1.0, 2.5])
        counts = ((0, 0, 0, 1, 2), (0, 1, 2, 2, 3), (0, 0, 0, 1), (0, 0, 0, 0, 1))
        clauses = [self._clauses(depth, chance.choice(each)) for each in counts]
        if not any(clauses) and chance.random() < 0.9:
            clauses[chance.randrange(2)] = [self.query(depth - 1)]
        must, should, must_not, filter = map(tuple, clauses)
        minimum = chance.choices([0, 1, 2, 3], [15, 3, 2, 1])[0]
        return "boolean", must, should, must_not, filter, minimum

    def _clauses(self, depth: int, count: int) -> list[Spec]:
        found = [self.query(depth - 1) for _ in range(count)]
        if found and self._chance.random() < 0.15:
            found.append(found[0])
        return found

    def _leaf(self) -> Spec:
        kinds: list[tuple[int, Callable[[], Spec]]] = [
            (30, lambda: ("term", self._word(), self._field())),
            (6, lambda: ("term", " ".join(self._some(1, 3)), self._field())),
            (14, self._phrase),
            (8, self._near),
            (5, lambda: ("synonyms", self._synonyms(), self._field())),
            (6, lambda: ("prefix", self._prefix(), self._field())),
            (5, lambda: ("wildcard", self._wildcard(), self._field())),
            (4, lambda: ("regex", self._regex(), self._field())),
            (8, self._fuzzy),
            (4, lambda: ("range", self._chance.choice(FIELDS[1:]), *self._bounds(self._lower()))),
            (4, self._column_range),
            (3, lambda: ("exists", self._chance.choice([*FIELDS[1:], *COLUMNS]))),
            (4, self._column_term),
            (4, lambda: ("filter", random_filter(self._chance))),
            (2, lambda: ("all",)),
        ]
        weights = [weight for weight, _ in kinds]
        return self._chance.choices(kinds, weights)[0][1]()

    def _word(self) -> str:
        return self._chance.choice(self._words)

    def _some(self, least: int, most: int) -> list[str]:
        return [self._word() for _ in range(self._chance.randint(least, most))]

    def _field(self) -> str | None:
        return self._chance.choices(FIELDS, [6, 1, 1])[0]

    def _phrase(self) -> Spec:
        chance = self._chance
        if self._texts and chance.random() < 0.7:
            text = chance.choice(self._texts)
            start = chance.randrange(len(text))
            part = text[start : start + chance.randint(1, 4)]
            if chance.random() < 0.3:
                chance.shuffle(part)
        else:
            part = self._some(1, 4)
        slop = chance.choice([0, 0, 0, 1, 2, 3, 5, 120, 10**6])
        return "phrase", " ".join(part), self._field(), slop

    def _near(self) -> Spec:
        chance = self._chance
        if not self._single:
            return ("all",)
        texts = tuple(chance.choice(self._single) for _ in range(chance.randint(1, 4)))
        distance = chance.choice([0, 1, 2, 5, 150])
        return "near", texts, distance, chance.random() < 0.4, self._field()

    def _synonyms(self) -> tuple[str, ...]:
        return tuple(" ".join(self._some(1, 2)) for _ in range(self._chance.randint(1, 3)))

    def _lower(self) -> str:
        """A word as it is in the table of words as written, or a part of a run of them."""
        found = [word for word, _ in analysed(self._analyzer, self._word())]
        return self._chance.choice(found)

    def _prefix(self) -> str:
        word = self._lower()
        text = word[: self._chance.randint(1, len(word))]
        return text.upper() if self._chance.random() < 0.1 and text.isascii() else text

    def _wildcard(self) -> str:
        found = []
        for character in self._lower():
            kind = self._chance.random()
            found.append("?" if kind < 0.2 else "*" if kind < 0.35 else character)
        return "".join(found) + self._chance.choice(["", "*", "?"])

    def _regex(self) -> str:
        found = []
        for character in self._lower():
            plain = "\\." if character == "." else character
            kind = self._chance.randrange(10)
            found.append({
                0: ".", 1: f"[{plain}t]", 2: f"[^{plain}]", 3: f"({plain}|o)", 4: f"{plain}?",
                5: f"{plain}*", 6: f"{plain}+",
            }.get(kind, plain))  # fmt: skip
        return "".join(found) + self._chance.choice(["", ".*", "s?", "(s|d|ing)"])

    def _fuzzy(self) -> Spec:
        chance = self._chance
        word = list(self._lower())
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(word))
            kind = chance.randrange(4)
            if kind == 0 and len(word) > 1:
                del word[at]
            elif kind == 1:
                word.insert(at, chance.choice("aot"))
            elif kind == 2:
                word[at] = chance.choice("aot")
            else:
                word[at : at + 2] = word[at : at + 2][::-1]
        most, prefix = chance.randrange(3), chance.choice([0, 0, 1, 2, 9])
        return "fuzzy", "".join(word), most, prefix, self._field()

    def _bounds(self, bound: Any) -> tuple[Any, Any, bool, bool]:
        chance = self._chance
        other = self._lower() if isinstance(bound, str) else bound + chance.choice([-1, 0, 1, 3])
        low, high = sorted([bound, other])
        if chance.random() < 0.3:
            low, high = chance.choice([(None, high), (low, None), (None, None), (high, low)])
        return low, high, chance.random() < 0.7, chance.random() < 0.7

    def _column_range(self) -> Spec:
        chance = self._chance
        column = chance.choice(["year", "weight", "lang"])
        if column != "lang":
            start = chance.randint(1998, 2005) if column == "year" else chance.choice([-1.5, 0.25])
            return "range", column, *self._bounds(start)
        low, high = chance.choice(LANGUAGES), chance.choice([None, *LANGUAGES])
        return "range", column, low, high, chance.random() < 0.7, chance.random() < 0.7

    def _column_term(self) -> Spec:
        chance = self._chance
        column = chance.choice(COLUMNS)
        values = {
            "year": ["2000", "1998", "2020"], "weight": ["0.25", "-1.5", "7"],
            "lang": [*LANGUAGES, "EN", "it's"], "tags": [*TAGS, "w"],
        }  # fmt: skip
        return "term", chance.choice(values[column]), column


def random_filter(chance: random.Random, depth: int = 2) -> Spec:
    """A filter of tests/naive/filters.py."""
    kind = chance.random()
    if depth and kind < 0.35:
        parts = [random_filter(chance, depth - 1) for _ in range(chance.randint(2, 3))]
        return chance.choice(["and", "or"]), *parts
    if depth and kind < 0.45:
        return "not", random_filter(chance, depth - 1)
    signs = ["=", "!=", "<", "<=", ">", ">="]
    found: list[Spec] = [
        ("compare", "year", chance.choice(signs), Decimal(chance.randint(1997, 2006))),
        ("compare", "weight", chance.choice(signs), Decimal("0.25")),
        ("compare", "lang", chance.choice(signs), chance.choice(LANGUAGES)),
        ("in", "lang", tuple(chance.sample(LANGUAGES, 2))),
        ("between", "year", Decimal(1999), Decimal(chance.randint(1999, 2006))),
        ("like", "lang", chance.choice(["%e%", "_r", "pt%"])),
        ("has", "tags", chance.choice(TAGS)),
        ("null", chance.choice(COLUMNS)),
    ]
    return chance.choice(found)


# ---- conversion


def value_of(spec: Spec) -> query.Query:
    """The query as a value of fastseq.query."""
    kind, *parts = spec
    if kind == "boolean":
        *clauses, minimum = parts
        return query.Boolean(*(tuple(map(value_of, group)) for group in clauses), minimum)
    if kind == "boost":
        return query.Boost(value_of(parts[0]), parts[1])
    if kind == "constant":
        return query.ConstantScore(value_of(parts[0]), parts[1])
    if kind == "filter":
        return query.Filter(filters.text_of(parts[0]))
    makers: dict[str, Callable[..., query.Query]] = {
        "term": query.Term, "phrase": query.Phrase, "near": query.Near, "synonyms": query.Synonyms,
        "prefix": query.Prefix, "wildcard": query.Wildcard, "regex": query.Regex,
        "fuzzy": query.Fuzzy, "range": query.Range, "exists": query.Exists, "all": query.All,
    }  # fmt: skip
    return makers[kind](*parts)


def tuple_of(spec: Spec, analyzer: str, operator: str = "or") -> queries.Query:
    """The query for the naive evaluator, in the analysis of an index.

    operator  "or" or "and": how the words of a text are joined
    """
    kind, *parts = spec
    if kind == "boolean":
        *clauses, minimum = parts
        groups = (tuple(tuple_of(each, analyzer, operator) for each in group) for group in clauses)
        return (kind, *groups, minimum)
    if kind in ("boost", "constant"):
        return kind, tuple_of(parts[0], analyzer, operator), parts[1]
    if kind == "term":
        text, name = parts
        if name in COLUMNS:
            return "condition", _equals(name, text)
        found = tuple(
            (*_word(analyzer, token), name) for _, token in analysed(analyzer, text) if token
        )
        return found[0] if len(found) == 1 else _joined(found, operator)
    if kind == "phrase":
        text, name, slop = parts
        return _phrase(analyzer, text, name, slop)
    if kind == "synonyms":
        texts, name = parts
        return kind, tuple(_phrase(analyzer, text, name, 0) for text in texts), name
    if kind == "near":
        texts, distance, in_order, name = parts
        words = [analysed(analyzer, text)[0][1] or "" for text in texts]
        if len(words) == 1:
            return (*_word(analyzer, words[0]), name)
        return kind, tuple(("term", word) for word in words), distance, in_order, name
    if kind == "prefix":
        return kind, parts[0].lower(), parts[1]
    if kind == "exists" and parts[0] in COLUMNS:
        return "condition", ("not", ("null", parts[0]))
    if kind == "range":
        return _range(*parts)
    return spec


def _word(analyzer: str, token: str) -> queries.Word:
    is_character = analyzer != "space" and character_groups.is_character("unicode", token)
    return ("character" if is_character else "term"), token


def _joined(found: tuple[queries.Query, ...], operator: str) -> queries.Query:
    if not found:
        return None
    must, should = (found, ()) if operator == "and" else ((), found)
    return "boolean", must, should, (), (), 0


def _phrase(analyzer: str, text: str, name: str | None, slop: int) -> queries.Query:
    tokens = [token for _, token in analysed(analyzer, text)]
    found = [(at, _word(analyzer, token)) for at, token in enumerate(tokens) if token]
    if len(found) <= 1:
        return (*found[0][1], name) if found else None
    # From the first word on: "of the north star" and "north star" are the same phrase.
    return "phrase", tuple((at - found[0][0], word) for at, word in found), slop, name


def _equals(column: str, text: str) -> Spec:
    if column == "tags":
        return "has", column, text
    return "compare", column, "=", text if column == "lang" else Decimal(text)


def _range(name: str, low: Any, high: Any, include_low: bool, include_high: bool) -> Spec:
    if name not in COLUMNS:
        return "between", low, high, include_low, include_high, name
    conditions: list[Spec] = [("not", ("null", name))]
    for bound, sign, includes in ((low, ">", include_low), (high, "<", include_high)):
        if bound is not None:
            literal = bound if isinstance(bound, str) else Decimal(str(bound))
            conditions.append(("compare", name, f"{sign}=" if includes else sign, literal))
    return "condition", ("and", *conditions)
