"""fastseq test: measures of a trained model on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    Common,
    common_options,
    device_option,
    example,
    format_option,
    model_argument,
    pass_common,
)
from .output import write_json, write_table
from .parameters import COLUMNS, Sectioned, column_options, named_columns

WHOLE = 12  # classes up to which the whole confusion matrix is shown


@click.command(
    "test",
    cls=Sectioned,
    epilog=example(
        "fastseq test .fastseq/model labelled_test.parquet",
        "fastseq test tagger tagged_test.parquet --format json",
    ),
)
@model_argument
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@format_option("table", "json", default="table", help="Output format.")
@column_options(*COLUMNS)
@device_option
@common_options
@pass_common
def command(
    common: Common,
    /,
    model_path: Path,
    data: tuple[Path, ...],
    form: str,
    device: str,
    **columns: Any,
) -> None:
    """Evaluate a trained model on data with known answers.

    A classifier: accuracy, macro-averaged F1 and, in the table, a confusion matrix. A tagger:
    accuracy and, where tags encode spans, precision, recall and F1 of spans, of all and of each
    type, as conlleval counts them and (strict) without spans that violate the tag scheme. A
    language model: nats per unit and perplexity. A forecaster: RMSE and MAE, and those of
    forecasting the last value. The unknown rate is the fraction of units that are not in the
    vocabulary.
    """
    from fastseq.models.loading import load

    model: Any = load(model_path, threads=common.threads, device=device)
    named = named_columns(model, columns)
    common.announce_compilation()
    measures: dict[str, Any] = model.evaluate(list(data), **named)
    if "units" in measures:
        measures["units"] = int(measures["units"])
    common.say_met(model.report_, "data")
    # spans without a type, as word segmentation has them, are called as seqeval does
    spans, strict = (
        {kind or "_": score._asdict() for kind, score in getattr(model, name, {}).items()}
        for name in ("span_scores_", "strict_span_scores_")
    )
    if form == "json":
        if "f1" in measures:
            measures |= {"tag_scheme": model.tag_scheme_, "spans": spans, "strict_spans": strict}
        write_json(measures)
        return
    write_table(["measure", "value"], list(measures.items()))
    if "f1" in measures:
        click.echo()
        columns_of = ("precision", "recall", "f1", "support")
        write_table(
            [f"{model.tag_scheme_} type", *columns_of, "strict_f1"],
            [
                (kind, *(score[name] for name in columns_of), strict.get(kind, {}).get("f1", 0.0))
                for kind, score in spans.items()
            ],
        )
    confusion = getattr(model, "confusion_", None)
    if confusion is not None:
        click.echo()
        _write_confusion(confusion.labels.tolist(), confusion.counts.tolist())


def _write_confusion(labels: list[Any], counts: list[list[int]]) -> None:
    """The whole matrix; of a large one the most frequent errors."""
    if len(labels) <= WHOLE:
        rows = [(label, *row) for label, row in zip(labels, counts, strict=True)]
        write_table(["expected \\ predicted", *map(str, labels)], rows)
        return
    wrong = [
        (count, expected, predicted)
        for expected, row in zip(labels, counts, strict=True)
        for predicted, count in zip(labels, row, strict=True)
        if count and predicted != expected
    ]
    wrong.sort(key=lambda each: -each[0])
    write_table(["times", "expected", "predicted"], wrong[:WHOLE])
    if len(wrong) > WHOLE:
        click.echo(f"and {len(wrong) - WHOLE:,} more pairs of the {len(labels)} classes")
