"""fastseq evaluate: the standard measures of a run."""

from __future__ import annotations

from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import click

from fastseq.errors import DataError, SettingsError

from .options import Common, common_options, example, format_option, pass_common
from .output import write_json, write_table

MEASURES = ("nDCG@10", "AP", "RR", "R@100", "P@10")


@click.command(
    "evaluate",
    epilog=example(
        "fastseq evaluate run.trec qrels.parquet",
        "fastseq evaluate run.parquet qrels.txt -m nDCG@10 -m AP --format json",
    ),
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("qrels", type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--measure",
    "measures",
    multiple=True,
    metavar="M",
    help=f"A measure as ir-measures names it; may be repeated.  [default: {', '.join(MEASURES)}]",
)
@format_option("table", "json", default="table", help="Form of the answer.")
@common_options
@pass_common
def command(common: Common, run: Path, qrels: Path, measures: tuple[str, ...], form: str) -> None:
    """Score a run against relevance judgements.

    RUN is Parquet (query_id, doc_id, rank, score) or TREC, QRELS Parquet (query_id, doc_id, rel)
    or TREC. Every measure is the mean over the queries of QRELS: one that RUN has nothing for
    counts as 0, and one that only RUN has is left out. As in trec_eval, documents are ordered by
    score, and nDCG takes the grades as gains.
    """
    wanted = _parsed(measures or MEASURES)
    from fastseq.store.runs import read_qrels, read_run

    judged = read_qrels(qrels)
    if not judged:
        raise DataError(f"{qrels}: judges no document")
    values = _scores(wanted, judged, read_run(run))
    if form == "json":
        write_json(values)
    else:
        write_table(["measure", "value"], list(values.items()))


def _parsed(names: tuple[str, ...]) -> dict[str, Any]:
    """The measures by the names they were asked for under, checked before anything is read."""
    import ir_measures

    wanted = {}
    for name in names:
        try:
            measure: Any = ir_measures.parse_measure(name)
            measure.validate_params()
            if measure.params.get("cutoff", 1) < 1:
                raise ValueError("a cutoff below 1")
        except (NameError, ValueError, AssertionError, SyntaxError) as error:
            raise SettingsError(
                f"no such measure: {name!r}; write it like nDCG@10, AP, RR or P(rel=2)@5"
            ) from error
        wanted[name] = measure
    return wanted


def _scores(
    wanted: dict[str, Any],
    qrels: dict[str, dict[str, int]],
    run: dict[str, dict[str, float]],
) -> dict[str, float]:
    import ir_measures

    try:
        found = ir_measures.calc_aggregate(list(wanted.values()), qrels, run)
    except ValueError as error:  # a measure that needs a package which is not installed
        raise SettingsError(str(error)) from error
    except (OSError, CalledProcessError) as error:  # or another program, which is fussy about ids
        raise SettingsError(
            f"{', '.join(wanted)}: the program that works one of these out failed; it may need "
            "Perl, and query ids that are numbers"
        ) from error
    return {name: float(found[measure]) for name, measure in wanted.items()}
