"""fastseq evaluate: measures by hand, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

QRELS = "q1 0 a 2\nq1 0 b 1\nq1 0 z 0\nq2 0 c 1\n"
RUN = "q1 Q0 x 1 3.0 t\nq1 Q0 a 2 2.0 t\nq1 Q0 b 3 1.0 t\nq9 Q0 a 1 1.0 t\n"
# by hand: q1 has its grades 2 and 1 at ranks 2 and 3, q2 is missing from the run
NDCG = (2 / math.log2(3) + 1 / math.log2(4)) / (2 + 1 / math.log2(3)) / 2
AP = (1 / 2 + 2 / 3) / 2 / 2


@pytest.fixture
def files(tmp_path: Path, write: Callable[..., Path]) -> dict[str, Path]:
    (tmp_path / "run.trec").write_text(RUN)
    (tmp_path / "qrels.txt").write_text(QRELS)
    run, qrels = ([line.split() for line in text.splitlines()] for text in (RUN, QRELS))
    write(
        "run.parquet",
        query_id=[row[0] for row in run],
        doc_id=[row[2] for row in run],
        rank=[int(row[3]) for row in run],
        score=[float(row[4]) for row in run],
    )
    write(
        "qrels.parquet",
        query_id=[row[0] for row in qrels],
        doc_id=[row[2] for row in qrels],
        rel=[int(row[3]) for row in qrels],
    )
    return {path.name: path for path in tmp_path.iterdir()}


@pytest.mark.parametrize("form", ["run.trec", "run.parquet"])
@pytest.mark.parametrize("judged", ["qrels.txt", "qrels.parquet"])
def test_measures_are_what_they_are_by_hand(
    run: Run, files: dict[str, Path], form: str, judged: str
) -> None:
    words = ("-m", "nDCG@10", "-m", "AP", "-m", "P(rel=2)@5", "--format", "json")
    ran = run("evaluate", files[form], files[judged], *words)
    assert ran.code == 0, ran.err
    values = json.loads(ran.out)
    assert list(values) == ["nDCG@10", "AP", "P(rel=2)@5"]
    assert values == pytest.approx({"nDCG@10": NDCG, "AP": AP, "P(rel=2)@5": 0.1})


def test_the_table_has_the_default_measures(run: Run, files: dict[str, Path]) -> None:
    ran = run("evaluate", files["run.trec"], files["qrels.txt"])
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["measure", "value"]
    assert [line[0] for line in lines[1:]] == ["nDCG@10", "AP", "RR", "R@100", "P@10"]
    assert lines[1][1] == f"{NDCG:.4f}"
    assert lines[3][1] == "0.2500"


def test_equal_scores_are_ordered_as_trec_eval_does(run: Run, tmp_path: Path) -> None:
    """By document id, from the last to the first, whatever the rank column says."""
    (tmp_path / "run.trec").write_text("q Q0 a 1 1.0 t\nq Q0 b 2 1.0 t\n")
    (tmp_path / "qrels.txt").write_text("q 0 b 1\n")
    ran = run("evaluate", "run.trec", "qrels.txt", "-m", "RR", "--format", "json")
    assert json.loads(ran.out) == {"RR": 1.0}


@pytest.mark.parametrize(
    "measure", ["nDGC@10", "nDCG@", "P", "", "1+1", "__import__('os')", "nDCG@10 AP", "α_nDCG@10"]
)
def test_an_unknown_measure_is_refused(run: Run, files: dict[str, Path], measure: str) -> None:
    ran = run("evaluate", files["run.trec"], files["qrels.txt"], "-m", measure)
    assert "easure" in ran.error
    assert ran.code == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run.trec", "q1 Q0 a 1\n", "run.trec"),
        ("run.trec", "q1 Q0 a 1 high t\n", "run.trec"),
        ("qrels.txt", "q1 0 a\n", "qrels.txt"),
        ("qrels.txt", "", "qrels.txt"),
    ],
)
def test_a_broken_file_is_named(
    run: Run, files: dict[str, Path], name: str, text: str, said: str
) -> None:
    files[name].write_text(text)
    assert said in run("evaluate", files["run.trec"], files["qrels.txt"]).error


def test_a_missing_file_is_named(run: Run, files: dict[str, Path]) -> None:
    assert "gone.trec" in run("evaluate", "gone.trec", files["qrels.txt"]).error
    assert "gone.txt" in run("evaluate", files["run.trec"], "gone.txt").error


def test_an_empty_run_scores_nothing(run: Run, files: dict[str, Path]) -> None:
    files["run.trec"].write_text("")
    ran = run("evaluate", files["run.trec"], files["qrels.txt"], "-m", "AP", "--format", "json")
    assert json.loads(ran.out) == {"AP": 0.0}


@pytest.mark.parametrize("measure", ["P@0", "nDCG@0", "R@-1", "ERR@20"])
def test_measures_that_end_the_process_elsewhere(
    run: Run, files: dict[str, Path], measure: str
) -> None:
    """Cutoffs of 0 abort in C, and ERR runs a Perl program that wants numbers as ids."""
    ran = run("evaluate", files["run.trec"], files["qrels.txt"], "-m", measure)
    assert ran.code == 1
    assert measure in ran.error
