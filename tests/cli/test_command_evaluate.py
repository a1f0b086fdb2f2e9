"""fastseq evaluate: values against hand-computed figures and naive twins, notices, errors."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, Write
from tests.naive import measures as naive

QRELS = "q1 0 a 2\nq1 0 b 1\nq1 0 z 0\nq2 0 c 1\n"
RUN = "q1 Q0 x 1 3.0 t\nq1 Q0 a 2 2.0 t\nq1 Q0 b 3 1.0 t\nq9 Q0 a 1 1.0 t\n"
# by hand: q1 has its grades 2 and 1 at ranks 2 and 3, q2 is missing from the run
NDCG = (2 / math.log2(3) + 1 / math.log2(4)) / (2 + 1 / math.log2(3)) / 2
AP = (1 / 2 + 2 / 3) / 2 / 2


@pytest.fixture
def files(tmp_path: Path, write: Write) -> dict[str, Path]:
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
def test_measures_match_hand_computed_values(
    run: Run, files: dict[str, Path], form: str, judged: str
) -> None:
    words = ("-m", "nDCG@10", "-m", "AP", "-m", "P(rel=2)@5", "--format", "json")
    ran = run("evaluate", files[form], files[judged], *words)
    values = ran.json
    assert list(values) == ["nDCG@10", "AP", "P(rel=2)@5"]
    assert values == pytest.approx({"nDCG@10": NDCG, "AP": AP, "P(rel=2)@5": 0.1})


def test_the_table_has_the_default_measures(run: Run, files: dict[str, Path]) -> None:
    ran = run("evaluate", files["run.trec"], files["qrels.txt"])
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["measure", "value"]
    assert [line[0] for line in lines[1:]] == ["nDCG@10", "AP", "RR", "R@100", "P@10"]
    assert lines[1][1] == f"{NDCG:.4f}"
    assert lines[3][1] == "0.2500"


@pytest.mark.parametrize(
    "measure", ["nDGC@10", "nDCG@", "P", "", "1+1", "__import__('os')", "nDCG@10 AP", "α_nDCG@10"]
)
def test_unknown_measure_is_an_error(run: Run, files: dict[str, Path], measure: str) -> None:
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
def test_broken_file_is_named(
    run: Run, files: dict[str, Path], name: str, text: str, said: str
) -> None:
    files[name].write_text(text)
    assert said in run("evaluate", files["run.trec"], files["qrels.txt"]).error


def test_missing_file_is_named(run: Run, files: dict[str, Path]) -> None:
    assert "gone.trec" in run("evaluate", "gone.trec", files["qrels.txt"]).error
    assert "gone.txt" in run("evaluate", files["run.trec"], "gone.txt").error


def test_empty_run_scores_nothing(run: Run, files: dict[str, Path]) -> None:
    files["run.trec"].write_text("")
    ran = run("evaluate", files["run.trec"], files["qrels.txt"], "-m", "AP", "--format", "json")
    assert ran.json == {"AP": 0.0}


@pytest.mark.parametrize("measure", ["P@0", "nDCG@0", "R@-1"])
def test_cutoffs_that_abort_trec_eval_are_errors(
    run: Run, files: dict[str, Path], measure: str
) -> None:
    ran = run("evaluate", files["run.trec"], files["qrels.txt"], "-m", measure)
    assert ran.code == 1
    assert measure in ran.error


# ---- ties

TIED = "q Q0 a 1 1.0 t\nq Q0 b 2 1.0 t\nq Q0 c 3 1.0 t\n"

Naive = Callable[[list[str], dict[str, int]], float | None]
MEASURES: dict[str, Naive] = {
    "P@1": lambda r, j: naive.precision(r, j, 1),
    "P(rel=2)@3": lambda r, j: naive.precision(r, j, 3, rel=2),
    "R@2": lambda r, j: naive.recall(r, j, 2),
    "Success@1": lambda r, j: naive.success(r, j, 1),
    "RR": naive.reciprocal_rank,
    "RR@2": lambda r, j: naive.reciprocal_rank(r, j, 2),
    "RR(rel=2)": lambda r, j: naive.reciprocal_rank(r, j, rel=2),
    "AP": naive.average_precision,
    "AP@3": lambda r, j: naive.average_precision(r, j, 3),
    "Rprec": naive.r_precision,
    "IPrec@0": lambda r, j: naive.interpolated_precision(r, j, 0),
    "IPrec@0.5": lambda r, j: naive.interpolated_precision(r, j, 0.5),
    "nDCG": naive.ndcg,
    "nDCG@2": lambda r, j: naive.ndcg(r, j, 2),
    "nDCG(dcg='exp-log2')@3": lambda r, j: naive.burges_ndcg(r, j, 3),
    "nDCG(gains={1:4})@3": lambda r, j: naive.ndcg(
        r, {d: {1: 4}.get(g, g) for d, g in j.items()}, 3
    ),
    "nDCG(judged_only=True)@2": lambda r, j: naive.ndcg([d for d in r if j.get(d, -1) >= 0], j, 2),
    "ERR": naive.expected_reciprocal_rank,
    "ERR@2": lambda r, j: naive.expected_reciprocal_rank(r, j, 2),
    "Bpref": naive.bpref,
    "infAP": naive.inferred_ap,
    "Judged": naive.judged_share,
    "Judged@2": lambda r, j: naive.judged_share(r, j, 2),
    "Compat": naive.compatibility,
    "Compat(p=0.8)": lambda r, j: naive.compatibility(r, j, 0.8),
    "Accuracy": naive.accuracy,
    "SetP": naive.set_precision,
    "SetR": naive.set_recall,
    "SetF": naive.set_f,
    "SetF(beta=0.5)": lambda r, j: naive.set_f(r, j, 0.5),
    "SetAP": naive.set_ap,
    "SetRelP": naive.set_relative_precision,
    "NumQ": lambda r, j: 1,
    "NumRel": lambda r, j: naive.total(j),
    "NumRel(rel=2)": lambda r, j: naive.total(j, 2),
    "NumRet": lambda r, j: len(r),
    "NumRelRet": lambda r, j: sum(naive.relevant(r, j)),
}


def tied_run(rng: random.Random, ranks: str) -> dict[str, list[tuple[str, int | None, float]]]:
    """Queries with rows (document, rank, score) in random order, many of equal scores."""
    found = {}
    for query in range(rng.randrange(1, 6)):
        documents = rng.sample("abcdefghéø猫", rng.randrange(1, 11))
        rows = [(document, float(rng.choice([-1, 0, 1, 1, 2]))) for document in documents]
        if ranks != "contradicting":
            rows.sort(key=lambda row: -row[1])
        step = {"gaps": 3, "equal": 0}.get(ranks, 1)
        first = 0 if ranks == "from zero" else 1
        ranked = [
            (d, None if ranks == "none" or (ranks == "some" and i == 0) else first + i * step, s)
            for i, (d, s) in enumerate(rows)
        ]
        rng.shuffle(ranked)
        found[f"q{query}"] = ranked
    return found


@pytest.mark.parametrize(
    "ranks", ["from one", "from zero", "gaps", "equal", "contradicting", "none", "some"]
)
@pytest.mark.parametrize("suffix", [".trec", ".parquet", ".tsv"])
def test_measures_of_random_tied_runs_match_naive_twins(
    run: Run, write: Write, tmp_path: Path, ranks: str, suffix: str
) -> None:
    rng = random.Random(f"{ranks}{suffix}")
    for _ in range(4):
        found = tied_run(rng, ranks)
        qrels = {
            f"q{query}": {d: rng.choice([-1, 0, 0, 1, 2, 4]) for d in rng.sample("abcdefghéøx", 6)}
            for query in range(rng.randrange(1, 5))
        }
        rows = [(q, d, rank, s) for q, docs in found.items() for d, rank, s in docs]
        rng.shuffle(rows)
        columns = dict(
            zip(("query_id", "doc_id", "rank", "score"), zip(*rows, strict=True), strict=True)
        )
        if ranks == "none":
            del columns["rank"]
        if suffix == ".parquet":
            write("run.parquet", **{name: list(values) for name, values in columns.items()})
        elif suffix == ".tsv":
            lines = [columns, *zip(*columns.values(), strict=True)]
            text = "".join(
                "\t".join("" if v is None else str(v) for v in line) + "\n" for line in lines
            )
            (tmp_path / "run.tsv").write_text(text)
        else:
            lines = [f"{q} Q0 {d} {'-' if r is None else r} {s} t\n" for q, d, r, s in rows]
            (tmp_path / "run.trec").write_text("".join(lines))
        judged = [f"{q} 0 {d} {g}\n" for q, of in qrels.items() for d, g in of.items()]
        (tmp_path / "qrels.txt").write_text("".join(judged))
        words = [word for name in MEASURES for word in ("-m", name)]
        ran = run("evaluate", f"run{suffix}", "qrels.txt", *words, "--format", "json")
        values = ran.json
        for name, measure in MEASURES.items():
            each = [measure(naive.order(found.get(q, [])), of) for q, of in qrels.items()]
            counted = [value for value in each if value is not None]
            expected = sum(counted) / (1 if name.startswith("Num") else len(counted) or math.nan)
            assert values[name] == (
                None if math.isnan(expected) else pytest.approx(expected, abs=2e-7)
            ), name


def test_tied_documents_keep_the_order_of_the_run_for_every_measure(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "run.trec").write_text(TIED)
    (tmp_path / "qrels.txt").write_text("q 0 a 1\n")
    words = ("-m", "RR", "-m", "RR@10", "-m", "P@1", "-m", "AP", "-m", "SetP")
    ran = run("evaluate", "run.trec", "qrels.txt", *words, "--format", "json")
    assert ran.json == {
        "RR": 1,
        "RR@10": 1,
        "P@1": 1,
        "AP": 1,
        "SetP": pytest.approx(1 / 3),
    }
    assert "trec_eval orders them by score" in ran.err
    assert "RR 0.333333, RR@10 0.333333, P@1 0, AP 0.333333." in ran.err
    assert "SetP" not in ran.err


def test_without_ranks_ties_are_ordered_as_trec_eval_does(
    run: Run, write: Write, tmp_path: Path
) -> None:
    """By document id, from the last to the first."""
    write("run.parquet", query_id=["q", "q"], doc_id=["a", "b"], score=[1.0, 1.0])
    (tmp_path / "qrels.txt").write_text("q 0 b 1\n")
    ran = run("evaluate", "run.parquet", "qrels.txt", "-m", "RR", "--format", "json")
    assert ran.json == {"RR": 1.0}
    assert ran.err == ""


@pytest.mark.parametrize("scores", [("3", "2"), ("1", "2"), ("1", "1.00000001")])
def test_ranks_come_before_scores(run: Run, tmp_path: Path, scores: tuple[str, str]) -> None:
    """A notice says so where trec_eval, whose scores are float32, would see another order."""
    first, second = scores
    (tmp_path / "run.trec").write_text(f"q Q0 a 1 {first} t\nq Q0 b 2 {second} t\n")
    (tmp_path / "qrels.txt").write_text("q 0 a 1\n")
    ran = run("evaluate", "run.trec", "qrels.txt", "-m", "RR", "--format", "json")
    assert ran.json == {"RR": 1.0}
    assert ("which gives RR 0.5." in ran.err) == (first == "1")
    assert run("evaluate", "run.trec", "qrels.txt", "-m", "R@5").err == ""  # the same either way


def test_measures_do_not_depend_on_the_other_measures(run: Run, files: dict[str, Path]) -> None:
    """trec_eval's library takes one measure's parameters for another's."""
    names = ("nDCG(gains={2:9})", "nDCG", "NumRet", "P(judged_only=True)@2", "IPrec@0.1", "SetF")
    words = [word for name in names for word in ("-m", name)]

    def values(*words: str) -> Any:
        return json.loads(
            run("evaluate", files["run.trec"], files["qrels.txt"], *words, "--format", "json").out
        )

    assert values(*words) == {n: v for name in names for n, v in values("-m", name).items()}


# ---- what the two files have in common


def test_files_without_a_common_query_give_a_warning(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.trec").write_text("q1 Q0 a 1 1.0 t\n")
    (tmp_path / "qrels.txt").write_text("1 0 a 1\n2 0 a 1\n")
    for quiet in ((), ("--quiet",)):
        ran = run("evaluate", "run.trec", "qrels.txt", "-m", "AP", "--format", "json", *quiet)
        assert ran.code == 0
        assert ran.json == {"AP": 0.0}
        assert "no query in common" in ran.err
        assert "'q1'" in ran.err
        assert "'1'" in ran.err


def test_queries_in_only_one_file_are_counted(run: Run, files: dict[str, Path]) -> None:
    ran = run("evaluate", files["run.trec"], files["qrels.txt"], "-m", "AP")
    assert "1 of 2 queries of" in ran.err
    assert "such as 'q2': they count as 0" in ran.err
    assert "1 of 2 queries of" in ran.err
    assert "such as 'q9': they are ignored" in ran.err
    assert run("evaluate", files["run.trec"], files["qrels.txt"], "--quiet").err == ""


def test_files_without_a_common_document_give_a_warning(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.trec").write_text("q Q0 7 1 1.0 t\n")
    (tmp_path / "qrels.txt").write_text("q 0 D7 1\n")
    ran = run("evaluate", "run.trec", "qrels.txt", "-m", "AP")
    assert "no document of run.trec is judged" in ran.err
    assert "'7'" in ran.err
    assert "'D7'" in ran.err


# ---- names of measures


def names_of_ir_measures() -> list[str]:
    """Each name in ir-measures' registry, with no, one and a wrong parameter."""
    from ir_measures import measures

    forms = "{}", "{}@10", "{}@0.5", "{}@0", "{}@-1", "{}(rel=2)@5", "{}(rel=0)", "{}(max_rel=2)@5"
    return [form.format(name) for name in measures.registry for form in forms]


@pytest.mark.parametrize("name", names_of_ir_measures())
def test_every_measure_of_ir_measures_is_computed_or_a_one_line_error(
    run: Run, files: dict[str, Path], name: str
) -> None:
    ran = run(
        "evaluate", files["run.trec"], files["qrels.txt"], "-m", name, "--format", "json", "--quiet"
    )
    if ran.code == 0:
        assert list(ran.json) == [name]
    else:
        assert repr(name) in ran.error
        for program in ("perl", "gdeval", "pip", "cwl", "pyndeval", "ranx"):
            assert program not in ran.error.lower()


def test_err_matches_gdeval(run: Run, files: dict[str, Path]) -> None:
    """Grades 0, 2, 1 at ranks 1, 2, 3, of at most 4: gdeval.pl prints 0.11068."""
    ran = run("evaluate", files["run.trec"], files["qrels.txt"], "-m", "ERR@20", "--format", "json")
    assert ran.json["ERR@20"] == pytest.approx(0.11068 / 2, abs=5e-6)
    files["qrels.txt"].write_text("q1 0 a 5\n")
    said = run("evaluate", files["run.trec"], files["qrels.txt"], "-m", "ERR@20").error
    assert "ERR@20 takes grades up to 4, not 5" in said


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ("P@0", "cutoff must be an integer from 1, not 0"),
        ("P", "needs a cutoff, such as P@10"),
        ("P(x=1)@5", "has no parameter 'x'"),
        ("P(5)", "cannot read"),
        ("P(rel=1)(rel=2)@3", "cannot read"),
        ("IPrec@2", "recall must be a number from 0 to 1"),
        ("IPrec@0.123", "two decimals"),
        ("SetF(beta=1e-9)", "beta must be a number from 0.001"),
        ("nDCG(dcg='x')", "log2 or exp-log2"),
        ("nDCG(gains={1:-1})", "gains must be a mapping between integers from 0"),
        ("R@True", "cutoff must be an integer"),
        ("R(judged_only=1)@5", "judged_only must be True or False"),
        ("RBP", "not supported; write it like"),
        ("INST(max_rel=3)", "not supported; write it like"),
    ],
)
def test_unsupported_parameters_are_named(
    run: Run, files: dict[str, Path], measure: str, said: str
) -> None:
    assert said in run("evaluate", files["run.trec"], files["qrels.txt"], "-m", measure).error


def test_relevance_too_large_for_trec_eval_is_an_error(run: Run, files: dict[str, Path]) -> None:
    files["qrels.txt"].write_text("q1 0 a 4294967297\n")
    said = run("evaluate", files["run.trec"], files["qrels.txt"]).error
    assert "line 1: relevance 4294967297, expected at most 1,000,000" in said


# ---- standard input and pipes


def test_run_or_judgments_from_standard_input(run: Run, files: dict[str, Path]) -> None:
    words = ("-m", "AP", "--format", "json")
    for name in ("run.trec", "run.parquet"):
        ran = run("evaluate", "-", files["qrels.txt"], *words, stdin=files[name].read_bytes())
        assert ran.json == pytest.approx({"AP": AP})
        assert "1 of 2 queries of" in ran.err
        assert "have no results in standard input, such as 'q2'" in ran.err
    for name in ("qrels.txt", "qrels.parquet"):
        ran = run("evaluate", files["run.trec"], "-", *words, stdin=files[name].read_bytes())
        assert ran.json == pytest.approx({"AP": AP})


def test_invalid_standard_input_is_an_error(run: Run, files: dict[str, Path]) -> None:
    ran = run("evaluate", "-", "-", stdin=RUN)
    assert ran.code == 2
    assert "standard input (-) is named twice" in ran.error
    said = run("evaluate", "-", files["qrels.txt"], stdin="a line\n").error
    assert "standard input: of no known format, expected the 6 columns of TREC" in said
    said = run("evaluate", files["run.trec"], "-", stdin="").error
    assert "standard input: contains no judgments" in said
