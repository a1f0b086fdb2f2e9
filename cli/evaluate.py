"""fastseq evaluate: the standard measures of a run."""

from __future__ import annotations

import ast
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.store.locations import STDIN, STDIN_NAME

from . import options
from .options import DATA, Common, command
from .output import write_json, write_table

MEASURES = ("nDCG@10", "AP", "RR", "R@100", "P@10")
SUPPORTED = (
    "AP", "Accuracy", "Bpref", "Compat", "ERR", "IPrec", "infAP", "Judged", "nDCG", "NumQ",
    "NumRel", "NumRelRet", "NumRet", "P", "R", "Rprec", "RR", "SetAP", "SetF", "SetP", "SetR",
    "SetRelP", "Success",
)  # fmt: skip
PROVIDERS = ("pytrec_eval", "compat", "judged", "msmarco")  # of ir-measures, always installed
# Parameters that the providers handle; others end the process or give wrong values.
ACCEPTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "cutoff": ("an integer from 1", lambda n: 1 <= n <= 1 << 30),
    "rel": ("an integer from 1", lambda n: 1 <= n <= 1 << 30),
    "recall": ("a number from 0 to 1 of two decimals", lambda r: 0 <= r <= 1 and round(r, 2) == r),
    "beta": ("a number from 0.001 to 1000", lambda beta: 0.001 <= beta <= 1000),
    "p": ("a number from 0 to 1", lambda p: 0 <= p <= 1),
    "dcg": ("log2 or exp-log2", lambda dcg: dcg in ("log2", "exp-log2")),
    "gains": (
        "a mapping between integers from 0",
        lambda gains: all(
            type(n) is int and 0 <= n <= 10**6 for gain in gains.items() for n in gain
        ),
    ),
}
LARGEST_GRADE = {"ERR": 4, "nDCG": 1000}  # for exponential gains; ERR's is that of TREC's gdeval

Qrels = Mapping[str, Mapping[str, int]]
Ranking = dict[str, list[str]]  # document ids by query id, best first


@command(
    "evaluate",
    "fastseq evaluate run.trec qrels.parquet",
    "fastseq evaluate run.parquet qrels.txt -m nDCG@10 -m AP --format json",
    "fastseq search --queries queries.jsonl | fastseq evaluate - qrels.tsv",
)
@click.argument("run", type=DATA)
@click.argument("qrels", type=DATA)
@click.option(
    "-m",
    "--measure",
    "measures",
    multiple=True,
    metavar="M",
    help="Measure, as ir-measures writes it (nDCG@10, P(rel=2)@5); may be repeated.  "
    f"[default: {', '.join(MEASURES)}]",
)
@options.form("table", "json")
def evaluate(common: Common, run: Path, qrels: Path, measures: tuple[str, ...], form: str) -> None:
    """Score a run against relevance judgments.

    RUN has the columns query_id, doc_id, rank and score, QRELS query_id, doc_id and rel, in
    Parquet, TREC, TSV (also BEIR's), CSV or JSON Lines; text may be compressed with gzip or zstd.
    One of them may be -, standard input; its format, and that of files with other suffixes, is
    recognised by the content. Every measure is the mean over the queries of QRELS (the Num…
    measures are sums): a query without results in RUN counts as 0, and one without judgments is
    ignored. nDCG takes the grades as gains.

    Documents are ordered by the ranks of RUN; equal or missing ranks by descending score, then by
    descending document id. trec_eval ignores ranks: where its order gives another figure, a notice
    on stderr names it.
    """
    wanted = {name: _parsed(name) for name in measures or MEASURES}
    from fastseq.store.runs import read_qrels, read_run

    judged = read_qrels(qrels)
    names = [STDIN_NAME if os.fspath(path) == STDIN else str(path) for path in (run, qrels)]
    if not judged:
        raise DataError(f"{names[1]}: contains no judgments")
    _check_grades(wanted, judged, names[1])
    found = read_run(run)
    _report_overlap(common, names[0], found, names[1], judged)
    ranking = {query: list(scores) for query, scores in found.items() if query in judged}
    values = _values(wanted, judged, ranking)
    _report_order(common, wanted, judged, found, ranking, values)
    if form == "json":
        write_json(values)
    else:
        write_table(["measure", "value"], list(values.items()))


# ---- measures


def _parsed(name: str) -> Any:
    """The measure of that name. Raises SettingsError unless it can be computed.

    Not by ir_measures.parse_measure, which uses parts of ast that Python 3.14 no longer has.
    """
    from ir_measures import measures

    known = f"write it like nDCG@10 or P(rel=2)@5; the measures are {', '.join(SUPPORTED)}"
    parts = re.fullmatch(r"(\w+)(\(.+\))?(?:@(.+))?", name)
    if parts is None or parts[1] not in measures.registry:
        raise SettingsError(f"no such measure: {name!r}; {known}")
    measure = measures.registry[parts[1]]
    try:
        call: Any = ast.parse(f"f{parts[2] or '()'}", mode="eval").body
        params = {str(key.arg): ast.literal_eval(key.value) for key in call.keywords}
        if parts[3] is not None:
            params[measure.AT_PARAM] = ast.literal_eval(parts[3])
        if call.args or not isinstance(call.func, ast.Name):
            raise SyntaxError
    except (ValueError, TypeError, AttributeError, SyntaxError):
        raise SettingsError(f"cannot read the measure {name!r}; {known}") from None
    if measure.NAME in SUPPORTED:
        measure = measure(**_checked(name, measure, params))
        if _native(measure) is not None or _provider().supports(measure):
            return measure
    raise SettingsError(f"the measure {name!r} is not supported; {known}")


def _checked(name: str, measure: Any, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters, integers as floats where those are expected. Raises SettingsError."""
    known = measure.SUPPORTED_PARAMS
    for key in [*params, *(key for key, info in known.items() if info.required)]:
        value = params.get(key, measure.params.get(key))
        if key not in known:
            raise SettingsError(f"the measure {name!r} has no parameter {key!r}")
        if value is None:
            example = f"{measure.NAME}@{1 if key == 'recall' else 10}"
            raise SettingsError(f"the measure {name!r} needs a {key}, such as {example}")
        kind = known[key].dtype
        if kind is float and type(value) is int:
            params[key] = value = float(value)
        wanted, fits = ACCEPTED.get(key, ("True or False", lambda value: True))
        if type(value) is not kind or not fits(value):
            raise SettingsError(f"measure {name!r}: {key} must be {wanted}, not {value!r}")
    return params


def _provider() -> Any:
    """The providers of ir-measures that need no further package or program."""
    from ir_measures import providers

    make: Any = providers.FallbackProvider
    return make([providers.registry[name] for name in PROVIDERS])


def _values(wanted: Mapping[str, Any], qrels: Qrels, ranking: Ranking) -> dict[str, float]:
    """The value of each measure for documents in a given order."""
    # Scores without ties, which every provider sorts alike; exact as float32, trec_eval's type.
    run = {
        query: {document: float(len(documents) - i) for i, document in enumerate(documents)}
        for query, documents in ranking.items()
    }
    found: dict[Any, float] = {}
    rest = {measure for measure in wanted.values() if _native(measure) is None}
    # One call for all without parameters but a cutoff. The others separately: trec_eval takes the
    # parameters of one measure for another's when they are computed together.
    plain = {m for m in rest if not m.params.keys() - {"cutoff"}}
    for measures in [plain, *({measure} for measure in rest - plain)]:
        if measures:
            found |= _provider().calc_aggregate(measures, qrels, run)
    for measure in wanted.values():
        if (compute := _native(measure)) is not None:
            found[measure] = _aggregated(measure, compute, qrels, ranking)
    return {name: float(found[measure]) for name, measure in wanted.items()}


# ---- measures that ir-measures computes with a Perl program, or not as described

# grades in ranking order, 0 for none; judgments of the query; measure -> value; None: left out
Compute = Callable[[list[int], Mapping[str, int], Any], float | None]


def _aggregated(measure: Any, compute: Compute, qrels: Qrels, ranking: Ranking) -> float:
    total = measure.aggregator()
    cutoff, judged_only = (measure.params.get(key) for key in ("cutoff", "judged_only"))
    for query, judged in qrels.items():
        documents = ranking.get(query, [])
        if judged_only:
            documents = [document for document in documents if judged.get(document, -1) >= 0]
        grades = [max(judged.get(document, 0), 0) for document in documents[:cutoff]]
        value = compute(grades, judged, measure)
        if value is not None:
            total.add(value)
    return float(total.result())


def _native(measure: Any) -> Compute | None:
    """The function here that computes a measure; None for one of ir-measures."""
    if measure.NAME == "nDCG" and (measure["dcg"] != "exp-log2" or "gains" in measure.params):
        return None
    return _NATIVE.get(measure.NAME)


def _err(grades: list[int], judged: Mapping[str, int], measure: Any) -> float:
    """Expected reciprocal rank (Chapelle et al. 2009, CIKM), for grades up to 4."""
    value, unsatisfied = 0.0, 1.0
    for rank, grade in enumerate(grades, 1):
        satisfied = (2.0**grade - 1) / 2.0 ** LARGEST_GRADE["ERR"]
        value += unsatisfied * satisfied / rank
        unsatisfied *= 1 - satisfied
    return value


def _exponential_ndcg(grades: list[int], judged: Mapping[str, int], measure: Any) -> float:
    """nDCG with gains of 2^grade - 1 (Burges et al. 2005, ICML)."""
    ideal = sorted((max(grade, 0) for grade in judged.values()), reverse=True)
    dcg, best = (
        sum((2.0**grade - 1) / math.log2(rank + 1) for rank, grade in enumerate(order, 1))
        for order in (grades, ideal[: measure.params.get("cutoff")])
    )
    return float(dcg / best) if best else 0.0


def _accuracy(grades: list[int], judged: Mapping[str, int], measure: Any) -> float | None:
    """The share of pairs of a relevant and another retrieved document in the right order; None
    where no relevant document was retrieved."""
    relevant = others = wrong = 0
    for grade in grades:
        if grade >= measure["rel"]:
            relevant += 1
            wrong += others
        else:
            others += 1
    return 1 - wrong / max(relevant * others, 1) if relevant else None


_NATIVE: dict[str, Compute] = {
    "ERR": _err,
    "nDCG": _exponential_ndcg,
    "Accuracy": _accuracy,
    "NumQ": lambda grades, judged, measure: 1,
    "NumRel": lambda grades, judged, measure: sum(rel >= measure["rel"] for rel in judged.values()),
}


# ---- notices


def _check_grades(wanted: Mapping[str, Any], qrels: Qrels, path: str) -> None:
    """Raise DataError for grades whose exponential gain a measure cannot take."""
    largest = max(max(judged.values()) for judged in qrels.values())
    for name, measure in wanted.items():
        limit = LARGEST_GRADE.get(measure.NAME)
        if limit is not None and _native(measure) is not None and largest > limit:
            raise DataError(f"{path}: {name} takes grades up to {limit}, not {largest}")


def _report_overlap(
    common: Common, run: str, found: Mapping[str, Mapping[str, float]], path: str, qrels: Qrels
) -> None:
    """Count the queries that only one file has, and warn of files without a common id."""
    shared = [query for query in found if query in qrels]
    if found and not shared:
        click.echo(
            f"Warning: {run} and {path} have no query in common: the first has, for example, "
            f"{next(iter(found))!r}, the second {next(iter(qrels))!r}. Every measure is 0.",
            err=True,
        )
        return
    if missing := [query for query in qrels if query not in found]:
        common.notify(
            f"{len(missing):,} of {len(qrels):,} queries of {path} have no results in {run}, such "
            f"as {missing[0]!r}: they count as 0"
        )
    if unjudged := [query for query in found if query not in qrels]:
        common.notify(
            f"{len(unjudged):,} of {len(found):,} queries of {run} have no judgments in {path}, "
            f"such as {unjudged[0]!r}: they are ignored"
        )
    if shared and not any(found[query].keys() & qrels[query].keys() for query in shared):
        click.echo(
            f"Warning: no document of {run} is judged in {path} for its query: for query "
            f"{shared[0]!r} the first has, for example, {next(iter(found[shared[0]]))!r}, the "
            f"second {next(iter(qrels[shared[0]]))!r}",
            err=True,
        )


def _report_order(
    common: Common,
    wanted: Mapping[str, Any],
    qrels: Qrels,
    found: Mapping[str, Mapping[str, float]],
    ranking: Ranking,
    values: Mapping[str, float],
) -> None:
    """Print the figures of trec_eval's order, where they differ."""
    changed = {}
    for query, documents in ranking.items():
        with np.errstate(over="ignore", invalid="ignore"):
            scores = np.array(list(found[query].values()), np.float32)  # as trec_eval has them
            if np.all(np.diff(scores) < 0):
                continue
        order = sorted(zip(scores.tolist(), documents, strict=True), reverse=True)
        if [document for _, document in order] != documents:
            changed[query] = [document for _, document in order]
    if not changed:
        return
    others = {n: f"{v:.6g}" for n, v in _values(wanted, qrels, ranking | changed).items()}
    if differ := [f"{n} {v}" for n, v in others.items() if v != f"{values[n]:.6g}"]:
        common.notify(
            "Documents are ordered by the run's ranks. trec_eval orders them by score, ties by "
            f"descending document id: another order for {len(changed):,} of {len(ranking):,} "
            f"queries, such as {next(iter(changed))!r}, which gives {', '.join(differ)}."
        )
