"""fastseq search --filter and delete --where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fastseq
from tests.cli.conftest import Run, Write

INDEX = Path(".fastseq/index")


def hits(ran: Any) -> list[tuple[str, float]]:
    return [(hit["id"], hit["score"]) for hit in ran.json]


def test_hits_pass_the_filter(run: Run, bilingual: Path, write: Write) -> None:
    def search(*words: Any) -> Any:
        return run("search", "cats 猫", "-i", bilingual, "-k", "50", *words)

    every = search("--format", "json").json
    wanted = [(hit["id"], hit["score"]) for hit in every if hit["fields"]["language"] == "en"]
    assert 0 < len(wanted) < len(every)
    english = ("--filter", "language = 'en'")
    assert hits(search("--format", "json", *english)) == wanted
    queries = write("queries.parquet", query_id=["q"], text=["cats 猫"])
    ran = run("search", "--queries", queries, "-i", bilingual, "-k", "50", *english)
    assert [line.split()[2] for line in ran.out.splitlines()] == [id for id, _ in wanted]
    ran = search("--filter", "language = 'xx'")
    assert (ran.code, ran.out) == (0, "")
    assert "No document that passes the filter matches this query." in ran.err


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        ("language =", "filter: expected a number, a string in single quotes, true, false or null"),
        ("color = 'red'", "filter: no stored column 'color'; stored are: id, language, title, te"),
        ("language = 5", "filter: the column 'language' is string and is compared with 5"),
    ],
)
def test_invalid_filters_are_errors_of_one_line(
    run: Run, bilingual: Path, filter: str, message: str
) -> None:
    assert message in run("search", "cats", "-i", bilingual, "--filter", filter).error


def test_delete_where_a_filter_is_true(run: Run, write: Write) -> None:
    corpus = write(
        "cats.parquet",
        id=["a", "b", "c", "d"],
        text=["The cat runs", "The dog runs", None, "Green tea"],
        year=[2001, 2002, 2003, 2004],
    )
    assert run("index", corpus).code == 0
    ran = run("delete", "--where", "year >= 2004 or text is null")
    assert ran.code == 0, ran.err
    assert "deleted    2" in ran.out
    ran = run("delete", "--where", "year >= 2004")
    assert (ran.code, "deleted    0" in ran.out) == (0, True)
    assert "no stored column 'sort'" in run("delete", "--where", "sort = 1").error
    assert "filter: expected null" in run("delete", "--where", "text is 5").error
    assert [id for id in "abcd" if id in fastseq.Index.open(INDEX)] == ["a", "b"]
