"""Arguments of a wrong type or range are refused by name, in one line, at every entry point of
Index, Hits, the analyzer, the ranking models and the features."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import (
    BM25,
    TFIDF,
    Analyzer,
    BM25Features,
    BoW,
    CountFeatures,
    Hits,
    Index,
    TfidfFeatures,
)
from fastseq.errors import DataError, FastseqError, FormatError, SettingsError

TEXTS = ["black cat", "white cat"]
CORPUS = pa.table({"id": ["a", "b"], "text": TEXTS})
OBJECT = object()
TABLE = pa.table({"n": [1]})  # its repr has several lines

NUMBERS = [5, -1, 1.5, math.nan, math.inf, 10**30, np.float32(2), True]
STRINGS = ["", "nonsense", "x\0y", "\ud800"]
CONTAINERS = [b"x", [], [1], {}, {1: 2}, (1, 2, 3), np.array([1, 2]), TABLE, OBJECT]
NOT_A_STRING = [None, *NUMBERS, *CONTAINERS]
NOT_STRINGS = [*NUMBERS, b"x", [1], {1: 2}, (1, 2, 3), np.array([1, 2]), OBJECT, ["x", None]]
NOT_A_PATH = [None, *NUMBERS, *CONTAINERS, "x\0y", "\ud800"]
NOT_A_FLAG = [None, 5, -1, 0, 1.5, math.nan, "", "True", *CONTAINERS]
NOT_A_FUNCTION = [*NUMBERS, *STRINGS, *CONTAINERS]
NOT_A_COUNT = [-1, 0, 1.5, math.nan, math.inf, True, np.float32(2), 10**30, *STRINGS, *CONTAINERS]
NOT_A_CHOICE = [None, *NUMBERS, *STRINGS, *CONTAINERS]
NOT_A_NUMBER = [None, -1, math.nan, math.inf, 10**30, *STRINGS, *CONTAINERS]
NOT_A_SPAN = [5, 1.5, "nonsense", b"x", [], [1], {}, (1, 2, 3), (2, 1), (0, 1), (1, 65), OBJECT]
NOT_TEXTS = [None, *NUMBERS, OBJECT, [None], [5], [b"x"], ["x", None], {1: 2}]

Wrong = tuple[str, Callable[[Any], Any], list[Any]]
FEATURES = [CountFeatures, TfidfFeatures, BM25Features]


def build(path: Path) -> list[Wrong]:
    def keyword(name: str) -> Callable[[Any], Any]:
        return lambda value: Index.build(CORPUS, path / "new", **{name: value})

    return [
        ("path", lambda value: Index.build(CORPUS, value), NOT_A_PATH),
        ("id_column", keyword("id_column"), NOT_A_STRING[1:]),
        ("text_columns", keyword("text_columns"), NOT_STRINGS),
        ("store", keyword("store"), NOT_STRINGS),
        ("analyzer", keyword("analyzer"), ["english", *NUMBERS, *CONTAINERS]),
        ("size", keyword("memory"), [None, -1, 0, 1.5, True, *STRINGS, *CONTAINERS]),
        ("threads", keyword("threads"), NOT_A_COUNT),
        ("overwrite", keyword("overwrite"), NOT_A_FLAG),
        ("progress", keyword("progress"), NOT_A_FUNCTION),
        ("path", Index.open, NOT_A_PATH),
    ]


def search(index: Index) -> list[Wrong]:
    def keyword(name: str) -> Callable[[Any], Any]:
        return lambda value: index.search("cat", **{name: value})

    def weighted(value: Any) -> Any:
        return index.search({"cat": value})

    def expanded(value: Any) -> Any:
        return index.search("cat", expand=lambda _: value)

    queries = [None, *NUMBERS, b"x", [1], [None], [b"x"], TABLE, OBJECT, np.array([1, 2])]
    return [
        ("query", index.search, queries),
        ("weight", weighted, [None, math.nan, math.inf, 10**30, "heavy", *CONTAINERS[:-3], OBJECT]),
        ("k", keyword("k"), [None, *NOT_A_COUNT]),
        ("model", keyword("model"), ["bm25", BM25, *NOT_A_CHOICE[1:]]),  # None is the default
        ("threads", keyword("threads"), NOT_A_COUNT),
        ("device", keyword("device"), NOT_A_CHOICE),
        ("expand", keyword("expand"), NOT_A_FUNCTION),
        ("expand", expanded, [None, 5, "ab", [], [5], [{1: 1}], [{"a": math.nan}], [{"a": "b"}]]),
        ("id", index.get, NOT_A_STRING),
        ("query", index.unknown_words, NOT_A_STRING),
        ("words", index.knows, [None, *NOT_STRINGS]),
        ("most", index.frequent_terms, [None, -1, *NOT_A_COUNT[2:]]),
    ]


def hits(found: Hits) -> list[Wrong]:
    numbers = [None, 2, -3, *NUMBERS[2:], *STRINGS, *CONTAINERS]
    return [
        ("q", found.fields, numbers),
        ("q", found.to_dicts, numbers),
        ("columns", lambda value: found.fields(0, value), NOT_STRINGS),
        ("columns", lambda value: found.to_table(None, value), NOT_STRINGS),
        ("query_ids", found.to_table, [*NUMBERS, "ab", b"ab", {}, OBJECT, ["a"], ["a", "b", "c"]]),
        ("query_ids", found.to_table, [["a", 1], [1, "a"], [1, None], [1, 2**64], [OBJECT, "a"]]),
    ]


def analysis() -> list[Wrong]:
    def keyword(name: str) -> Callable[[Any], Any]:
        return lambda value: Analyzer(**{name: value})

    return [
        ("tokenizer", keyword("tokenizer"), [value for value in NOT_A_CHOICE if value is not None]),
        ("normalization", keyword("normalization"), NOT_A_CHOICE),
        ("cjk", keyword("cjk"), NOT_A_CHOICE),
        ("on_invalid", keyword("on_invalid"), NOT_A_CHOICE),
        ("lowercase", keyword("lowercase"), NOT_A_FLAG),
        ("fold_accents", keyword("fold_accents"), NOT_A_FLAG),
        ("stopwords", keyword("stopwords"), [None, *NUMBERS, *STRINGS, b"x", [1], {}, OBJECT]),
        ("stemmer", keyword("stemmer"), NOT_A_CHOICE),
        ("ngrams", keyword("ngrams"), [None, *NOT_A_SPAN]),
        ("char_ngrams", keyword("char_ngrams"), NOT_A_SPAN),
        ("min_length", keyword("min_length"), NOT_A_COUNT),
        ("max_length", keyword("max_length"), NOT_A_COUNT),
        ("language", Analyzer.for_language, NOT_A_CHOICE),
        ("text", Analyzer().tokens, NOT_A_STRING),
        ("analyzer", Analyzer.from_dict, [None, *NUMBERS, *STRINGS, [], OBJECT, {}, {"a": 1}]),
    ]


def ranking() -> list[Wrong]:
    return [
        ("k1", lambda value: BM25(k1=value), NOT_A_NUMBER),
        ("b", lambda value: BM25(b=value), [5, 1.5, *NOT_A_NUMBER]),
        ("delta", lambda value: BM25(delta=value), NOT_A_NUMBER),
        ("variant", lambda value: BM25(variant=value), NOT_A_CHOICE),
        ("smart", TFIDF, ["ltc", "ltc.lnc.", "xtc.lnc", *NOT_A_CHOICE]),
        ("cosine", BoW, NOT_A_FLAG),
    ]


def features(path: Path) -> list[Wrong]:
    def keyword(kind: Any, name: str) -> Callable[[Any], Any]:
        return lambda value: kind(**{name: value}).fit(TEXTS)

    wrong: dict[str, list[Any]] = {
        "analyzer": ["english", *NUMBERS, *CONTAINERS],
        "min_df": [None, 0, -1, math.nan, math.inf, True, 1.5, *STRINGS, *CONTAINERS],
        "max_df": [None, 0, -1, math.nan, math.inf, True, 1.5, *STRINGS, *CONTAINERS],
        "max_features": [0, -1, 1.5, True, *STRINGS, *CONTAINERS],
        "dtype": [5, "nonsense", "x\0y", "\ud800", "U3", "i4,,", object, OBJECT],
        "threads": NOT_A_COUNT,
        "binary": NOT_A_FLAG,
        "norm": NOT_A_CHOICE[1:],
        "use_idf": NOT_A_FLAG,
        "smooth_idf": NOT_A_FLAG,
        "sublinear_tf": NOT_A_FLAG,
        "k1": [None, -1, math.nan, math.inf, *STRINGS, *CONTAINERS],
        "b": [5, 1.5, *NOT_A_NUMBER],
    }
    wrong |= {name: values for name, _, values in analysis() if name not in ("text", "analyzer")}
    found: list[Wrong] = []
    for kind in FEATURES:
        names = list(inspect.signature(kind).parameters)
        assert set(names) <= set(wrong), "a new parameter has no row in this table"
        found += [(name, keyword(kind, name), wrong[name]) for name in names]
        fitted = kind().fit(TEXTS)
        found += [
            ("", lambda value, kind=kind: kind().fit(value), NOT_TEXTS),
            ("", fitted.transform, NOT_TEXTS),
            ("path", fitted.save, NOT_A_PATH),
            ("path", kind.load, NOT_A_PATH),
        ]
    return found


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.build(CORPUS, tmp_path_factory.mktemp("index") / "cats")


def test_wrong_arguments_are_refused_by_name(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = index.search(["cat", "black"])
    rows = [*build(tmp_path), *search(index), *hits(found), *analysis(), *ranking()]
    for name, call, values in [*rows, *features(tmp_path)]:
        for value in values:
            try:
                call(value)
            except (SettingsError, DataError, FormatError) as error:
                message = str(error)
            except Exception as error:  # whatever it is: the case must be named
                pytest.fail(f"{name}={value!r}: {type(error).__name__}: {error}")
            else:
                pytest.fail(f"{name}={value!r} is accepted")
            assert name in message, (value, message)
            assert "\n" not in message, (value, message)
            for inside in ("attribute", "expected bytes", "'NoneType'", "unhashable"):
                assert inside not in message, (value, message)
    assert list(tmp_path.iterdir()) == []


def test_the_message_names_the_expected_values(index: Index) -> None:
    for call, said in (
        (lambda: Index.build(CORPUS, "new", analyzer="english"), "a fastseq.Analyzer, such as"),  # type: ignore[arg-type]
        (lambda: Index.build(CORPUS, "new", store=5), "a string or a list of strings, not 5"),  # type: ignore[arg-type]
        (lambda: Index.open(None), "path must be a path, a string or os.PathLike, not None"),  # type: ignore[arg-type]
        (lambda: Analyzer().tokens(None), "text must be a string, not None"),  # type: ignore[arg-type]
        (lambda: index.search("cat", k=0), "k must be a whole number of at least 1, not 0"),
        (lambda: index.search("cat", k=1 << 31), "k of 2147483648 for 1 queries does not fit"),
    ):
        with pytest.raises(FastseqError, match=said):
            call()


def test_numpy_values_are_accepted(index: Index) -> None:
    found = index.search(np.array(["cat"]), k=np.int64(1), model=BM25(k1=np.float32(0.9)))
    assert found.to_dicts(np.int8(0))[0]["id"] == "a"
    assert Analyzer(lowercase=np.True_, min_length=np.int32(2)) == Analyzer(min_length=2)
    assert Analyzer(lowercase=np.False_).to_dict()["lowercase"] is False


# ---- hits as a sequence


def test_hits_are_a_sequence_of_result_lists(index: Index) -> None:
    found = index.search(["cat", "nothing", "black"])
    lists = [found.to_dicts(q) for q in range(3)]
    assert [len(one) for one in lists] == [2, 0, 1]
    assert list(found) == lists
    assert list(reversed(found)) == lists[::-1]
    assert [found[0], found[-1], found[np.int64(1)]] == [lists[0], lists[2], lists[1]]
    assert len(found[1:]) == 2
    assert list(found[1:]) == lists[1:]
    assert found[::2].ids == [found.ids[0], found.ids[2]]
    assert list(index.search([])) == []
    for q in (3, -4):
        with pytest.raises(IndexError, match="hits of 3 queries"):
            found[q]
