"""search --feedback and --like, and the options of models by formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastseq import DPH, PL2, RM3, Dirichlet, Index, JelinekMercer, Rocchio
from tests.cli.conftest import Run

QUERY = "why do cats purr"


def scores(ran: Any) -> list[tuple[Any, float]]:
    return [(hit["id"], hit["score"]) for hit in ran.json]


def expected(hits: Any) -> list[tuple[Any, float]]:
    return list(zip(hits.ids[0], hits.scores[0].tolist(), strict=False))


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (("--model", "dirichlet", "--mu", "300"), Dirichlet(300)),
        (("--model", "jm", "--lambda", "0.6"), JelinekMercer(0.6)),
        (("--model", "dph"), DPH()),
        (("--model", "pl2", "--c", "4"), PL2(4)),
    ],
)
def test_models_by_formula(run: Run, bilingual: Path, words: tuple[str, ...], model: Any) -> None:
    ran = run("search", QUERY, "-i", bilingual, "--format", "json", *words)
    assert scores(ran) == expected(Index.open(bilingual).search(QUERY, model=model))


@pytest.mark.parametrize(
    ("words", "feedback"),
    [
        (("rm3",), RM3()),
        (("rocchio",), Rocchio()),
        (
            (
                "rm3",
                "--feedback-documents",
                "2",
                "--feedback-terms",
                "5",
                "--feedback-weight",
                "0.3",
            ),
            RM3(2, 5, 0.3),
        ),
        (("rocchio", "--feedback-weight", "2"), Rocchio(beta=2)),
    ],
)
def test_feedback(run: Run, bilingual: Path, words: tuple[str, ...], feedback: Any) -> None:
    ran = run("search", QUERY, "-i", bilingual, "--format", "json", "--feedback", *words)
    index = Index.open(bilingual)
    assert scores(ran) == expected(index.search(QUERY, feedback=feedback))
    assert scores(ran) != expected(index.search(QUERY))


@pytest.mark.parametrize("text", ['"cats purr"', "+cats -dogs purr", "pur*", "cats purr^2"])
def test_feedback_of_queries_with_operators(run: Run, bilingual: Path, text: str) -> None:
    ran = run("search", text, "-i", bilingual, "--format", "json", "--feedback", "rm3")
    index = Index.open(bilingual)
    assert scores(ran) == expected(index.search(text, syntax="query", feedback=RM3()))
    plain = index.search(text, syntax="query")
    if plain.ids[0]:
        assert scores(ran) != expected(plain)


def test_like(run: Run, bilingual: Path) -> None:
    ran = run("search", "--like", "en02", "-i", bilingual, "-k", "3", "--format", "json")
    assert scores(ran) == expected(Index.open(bilingual).more_like("en02", k=3))
    assert len(ran.json) == 3
    assert "en02" not in [hit["id"] for hit in ran.json]
    unknown = run("search", "--like", "never", "-i", bilingual)
    assert unknown.error == "Error: no document has the id 'never'"


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--like", "en02", QUERY), "give either a QUERY, --queries FILE or --like ID", 2),
        (("--like", "en02", "--feedback", "rm3"), "--like cannot be combined", 2),
        ((QUERY, "--feedback-terms", "3"), "require --feedback", 2),
        ((QUERY, "--feedback-weight", "3"), "require --feedback", 2),
        ((QUERY, "--feedback", "other"), "'other' is not one of 'rm3', 'rocchio'", 2),
        ((QUERY, "--feedback", "rm3", "--feedback-weight", "3"), "--feedback-weight must be", 1),
        ((QUERY, "--feedback", "rocchio", "--feedback-terms", "0"), "--feedback-terms must be", 1),
        ((QUERY, "--mu", "3"), "mu is a parameter of dirichlet, not of bm25", 1),
        ((QUERY, "--model", "jm", "--lambda", "3"), "lam must be from 0.001 to 1", 1),
    ],
)
def test_wrong_options(
    run: Run, bilingual: Path, words: tuple[str, ...], said: str, code: int
) -> None:
    ran = run("search", *words, "-i", bilingual)
    assert ran.code == code
    assert said in ran.error
