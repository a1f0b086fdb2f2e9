"""An index whose tokenizer is a Python function: only the function's name is saved."""

from __future__ import annotations

import copy
import functools
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastseq import BM25, TFIDF, Analyzer, DataError, FormatError, Index, SettingsError
from fastseq.text.lexicon import Lexicon
from fastseq.types import Texts
from tests.naive import inverted

ROWS = [
    {"id": 1, "text": "New York|tea"},
    {"id": 2, "text": "tea|TEA|York"},
    {"id": 3, "text": None},
    {"id": 4, "text": "猫|tea"},
]
MISSING = (
    r"this index was tokenised by the Python function (\S*\.bars): it can be searched and added to "
    r"from Python only, with Index\.open\(path, tokenizer=\1\)$"
)


def bars(text: str) -> list[str]:
    return text.split("|")


def spaces(text: str) -> list[str]:
    return text.split()


class Splitter:
    """A tokenizer with a state of its own, which has no name."""

    def __init__(self, separator: str) -> None:
        self.separator = separator

    def __call__(self, text: str) -> list[str]:
        return text.split(self.separator)

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Index.build(ROWS, tmp_path / "index", analyzer=Analyzer(tokenizer=bars))
    return tmp_path / "index"


def ids(index: Index, query: Any, **settings: Any) -> list[Any]:
    return sorted(index.search(query, **settings).ids[0])


# ---- with the function


def test_built_and_opened_with_the_function(tmp_path: Path) -> None:
    analyzer = Analyzer(tokenizer=bars, stopwords=("york",))
    built = Index.build(ROWS, tmp_path / "index", analyzer=analyzer)
    found = inverted.read(tmp_path / "index")
    assert found == inverted.invert_columns(
        [[["new york", "tea"]], [["tea", "tea", None]], [[]], [["猫", "tea"]]]
    )
    opened = Index.open(tmp_path / "index", tokenizer=bars)
    assert opened.analyzer == built.analyzer == analyzer
    for index in (built, opened):
        assert ids(index, "New York") == [1]
        assert ids(index, "new york|猫") == [1, 4]
        assert ids(index, "york") == []
        assert (
            index.search("tea", model=TFIDF()).ids[0] == built.search("tea", model=TFIDF()).ids[0]
        )
        assert index.knows(["tea", "york", "cat", "New York"]) == [True, None, False, True]
        assert index.removed_words("tea|York") == [("york", "stop word")]
        assert index.unknown_words("tea|cat sat") == ["cat sat"]
        assert ids(index, "猫", expand=lambda queries: [{"New York": 0.5}]) == [1, 4]


def test_settings_have_the_name_for_display(path: Path) -> None:
    name = f"{__name__.rpartition('.')[2]}.bars"
    told = Index.open(path).info()["settings"]["analyzer"]["tokenizer"]
    assert told["function"].endswith(name)
    for function, shown in (
        (Splitter("|"), "Splitter"), (functools.partial(bars), "functools.partial"),
        (str.split, "str.split"), (lambda text: [text], "<lambda>"),
    ):  # fmt: skip
        saved = Analyzer(tokenizer=function).to_dict(functions=True)
        assert saved["tokenizer"]["function"].endswith(shown)
        json.dumps(saved)
        again = Analyzer.from_dict(json.loads(json.dumps(saved)))
        assert again.to_dict(functions=True) == saved
        assert Analyzer.from_dict(saved, function).tokenizer is function
        with pytest.raises(SettingsError, match="a Python function cannot be saved"):
            Analyzer(tokenizer=function).to_dict()


def test_function_without_a_hash(tmp_path: Path) -> None:
    analyzer = Analyzer(tokenizer=Splitter("|"), stopwords="lucene")
    index = Index.build(ROWS, tmp_path / "index", analyzer=analyzer)
    assert ids(index, "new york") == [1]
    again = Index.open(tmp_path / "index", Splitter("|"))
    assert ids(again, "new york") == [1]
    assert ids(pickle.loads(pickle.dumps(again)), "new york") == [1]


def test_another_function_is_used_as_it_is(path: Path) -> None:
    """The name is not compared: whoever opens the index knows the function."""
    index = Index.open(path, tokenizer=spaces)
    assert ids(index, "tea york") == [1, 2, 4]
    assert ids(Index.open(path, tokenizer=bars), "tea york") == []


# ---- changes


def test_changes_with_the_function(path: Path, tmp_path: Path) -> None:
    index = Index.open(path, tokenizer=bars)
    before = Index.open(path, tokenizer=bars)
    assert index.add([{"id": 5, "text": "New York|coffee"}, {"id": 1, "text": "a b"}])["added"] == 2
    assert ids(index, "new york") == [5]
    assert index.delete(2)["deleted"] == 1
    assert ids(index, "tea") == [4]
    assert ids(before, "tea") == [1, 2, 4]
    assert before.refresh()
    assert ids(before, "tea") == [4]
    assert ids(before, "a b") == [1]
    with index.writer() as writer:
        writer.add([{"id": 6, "text": "a b|c"}])
        writer.compact()
    assert ids(index, "a b") == [1, 6]
    rows = [ROWS[2], ROWS[3], {"id": 5, "text": "New York|coffee"}, {"id": 1, "text": "a b"},
            {"id": 6, "text": "a b|c"}]  # fmt: skip
    fresh = Index.build(rows, tmp_path / "fresh", analyzer=Analyzer(tokenizer=bars))
    for query in ("a b", "tea", "New York|c|a b"):
        found, expected = index.search(query), fresh.search(query)
        assert found.ids == expected.ids
        assert found.scores.tobytes() == expected.scores.tobytes()


def test_a_failing_function_leaves_the_commit(path: Path) -> None:
    def fail(text: str) -> list[str]:
        raise LookupError("not this one")

    index = Index.open(path, tokenizer=fail)
    before = sorted(file.relative_to(path) for file in path.rglob("*"))
    with pytest.raises(LookupError, match="not this one"):
        index.add([{"id": 5, "text": "x"}])
    with pytest.raises(LookupError, match="not this one"):
        index.search("tea")
    assert sorted(file.relative_to(path) for file in path.rglob("*")) == before
    assert len(Index.open(path)) == 4


# ---- without the function


CALLS: list[Callable[[Index], Any]] = [
    lambda index: index.search("tea"),
    lambda index: index.search(["tea", "New York"], threads=2),
    lambda index: index.search([{"tea": 1.0}, "tea"]),
    lambda index: index.search("tea", expand=lambda queries: [{"cat": 1.0}]),
    lambda index: index.knows(["tea"]),
    lambda index: index.unknown_words("tea"),
    lambda index: index.removed_words("tea"),
    lambda index: index.add([{"id": 9, "text": "x"}]),
    lambda index: index.analyzer.tokens("tea"),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_analysis_without_the_function_is_one_clear_error(path: Path, number: int) -> None:
    index = Index.open(path)
    for each in (index, pickle.loads(pickle.dumps(index)), copy.copy(index)):
        with pytest.raises(SettingsError, match=MISSING) as caught:
            CALLS[number](each)
        assert "\n" not in str(caught.value)
    assert len(Index.open(path)) == 4


def test_all_else_needs_no_function(path: Path) -> None:
    index = Index.open(path)
    assert len(index) == 4
    assert index.get(1) == ROWS[0]
    assert 2 in index
    assert ids(index, {"new york": 1.0, "tea": 0.5}) == [1, 2, 4]
    assert ids(index, {"tea": 1.0}, model=BM25(variant="bm25+")) == [1, 2, 4]
    assert index.frequent_terms(1) == ["tea"]
    assert index.unknown_ids([1, 7]) == [7]
    assert index.delete([2])["deleted"] == 1
    assert not index.refresh()
    index.compact()
    assert ids(index, {"tea": 1.0}) == [1, 4]
    assert ids(Index.open(path, tokenizer=bars), "New York") == [1]


def test_a_function_for_an_index_without_one_is_an_error(tmp_path: Path) -> None:
    Index.build(ROWS, tmp_path / "index")
    with pytest.raises(
        SettingsError, match="a function was passed, but the tokenizer is 'unicode'"
    ):
        Index.open(tmp_path / "index", tokenizer=bars)
    for value in (5, "bars", ["bars"]):
        with pytest.raises(SettingsError, match="tokenizer must be a function"):
            Index.open(tmp_path / "index", tokenizer=value)  # type: ignore[arg-type]


# ---- what a function returns


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([3], "the tokenizer returned 3; expected str"),
        (["a", None], "the tokenizer returned None; expected str"),
        ([b"tea"], "the tokenizer returned b'tea'; expected str"),
        (None, "the tokenizer returned None; expected a list of str"),
        ("tea", "the tokenizer returned 'tea'; expected a list of str"),
        (7, "the tokenizer returned 7; expected a list of str"),
        (["\ud800"], "the tokenizer returned a token that is not valid Unicode"),
    ],
)
def test_other_than_strings_are_rejected(
    path: Path, tmp_path: Path, returned: Any, said: str
) -> None:
    def wrong(text: str) -> Any:
        return returned

    index = Index.open(path, tokenizer=wrong)
    for ask in (lambda: index.search("tea"), lambda: index.search(["tea", "x"]),
                lambda: index.search("tea", expand=lambda queries: [{}])):  # fmt: skip
        with pytest.raises(DataError, match=said) as caught:
            ask()
        assert "UTF-8" not in str(caught.value)
    with pytest.raises(DataError, match=said):
        index.add([{"id": 9, "text": "x"}])
    with pytest.raises(DataError, match=said) as caught:
        Index.build(ROWS, tmp_path / "other", analyzer=Analyzer(tokenizer=wrong))
    assert said.endswith("Unicode") or "row 0 (from 0)" in str(caught.value)
    assert not (tmp_path / "other").exists()


def test_invalid_queries_are_still_not_utf8(path: Path) -> None:
    index = Index.open(path, tokenizer=bars)
    with pytest.raises(DataError, match="a query is not valid UTF-8"):
        index.search("\ud800")


def test_other_iterables_of_strings(tmp_path: Path) -> None:
    given: list[Callable[[str], Any]] = [
        lambda text: (part for part in text.split("|")),
        lambda text: tuple(text.split("|")),
        lambda text: dict.fromkeys(text.split("|")),
        lambda text: [*text.split("|"), "", ""],
    ]
    for function in given:
        lexicon = Lexicon(Analyzer(tokenizer=function), gaps=True)
        tokens = lexicon.encode(Texts.from_strings(["A|b", "", "b|c"]))
        assert lexicon.terms().to_strings() == ["a", "b", "c"]
        assert tokens.values.tolist() == [0, 1, 1, 2]  # no gaps: nothing was removed


# ---- pickles and copies


def test_pickles_and_copies_keep_the_function(path: Path) -> None:
    index = Index.open(path, tokenizer=bars)
    for again in (pickle.loads(pickle.dumps(index)), copy.copy(index), copy.deepcopy(index)):
        assert again.analyzer.tokenizer is bars
        assert ids(again, "new york") == [1]
    hits = pickle.loads(pickle.dumps(index.search("new york")))
    assert hits.ids == [[1]]


def test_pickles_of_one_index_with_several_functions(path: Path) -> None:
    opened = [Index.open(path, bars), Index.open(path, spaces), Index.open(path)]
    pickles = [pickle.dumps(index) for index in opened]
    again = [pickle.loads(pickled) for pickled in pickles + pickles[::-1]]
    for index, function in zip(again[:2] + again[4:][::-1], [bars, spaces] * 2, strict=True):
        assert index.analyzer.tokenizer is function
    assert ids(again[0], "new york") == [1]
    assert ids(again[1], "new york") == [2]
    with pytest.raises(SettingsError, match=MISSING):
        again[2].search("tea")


def test_a_pickle_of_an_earlier_commit_is_an_error(path: Path) -> None:
    pickled = pickle.dumps(Index.open(path, bars))
    Index.open(path, bars).add([{"id": 9, "text": "x"}])
    with pytest.raises(FormatError, match="the commit of this pickle is gone"):
        pickle.loads(pickled)


# ---- the command line, which has no functions


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastseq_cli", *map(str, arguments)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_commands(path: Path, tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text('{"id": 9, "text": "x"}\n')
    (tmp_path / "queries.jsonl").write_text('{"query_id": 1, "text": "tea"}\n')
    for arguments in (
        ["search", "tea", "-i", path],
        ["search", "tea", "-i", path, "--format", "json"],
        ["search", "--queries", tmp_path / "queries.jsonl", "-i", path, "-o", tmp_path / "r.trec"],
        ["add", tmp_path / "more.jsonl", "-i", path],
    ):
        ran = run(*arguments)
        assert ran.returncode == 1
        assert ran.stdout == ""
        (line,) = ran.stderr.splitlines()
        assert re.search(f"^Error: {MISSING}", line), line
    assert not (tmp_path / "r.trec").exists()
    ran = run("info", path)
    assert ran.returncode == 0
    assert "bars" in ran.stdout
    assert run("delete", 2, "-i", path).returncode == 0
    assert run("compact", "-i", path).returncode == 0
    assert ids(Index.open(path, bars), "tea") == [1, 4]
