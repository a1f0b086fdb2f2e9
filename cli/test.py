"""fastseq test: how good a trained model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .fit_options import DATA, column_options, named_columns
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

WHOLE = 12  # classes of a confusion matrix that is shown whole, else pairs of it


@click.command(
    "test",
    epilog=example(
        "fastseq test .fastseq/model labelled_test.parquet",
        "fastseq test tagger tagged_test.parquet --format json",
    ),
)
@model_argument
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@format_option("table", "json", default="table", help="Form of the answer.")
@column_options(*(setting.name for setting in DATA))
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
    """Measure a trained model on data with known answers.

    A classifier: accuracy, macro-averaged F1, and in the table form a confusion matrix. A tagger:
    accuracy, and F1 of spans where tags are BIO. A language model: nats per unit and perplexity.
    A forecaster: RMSE and MAE, beside those of forecasting the last value.
    """
    from fastseq.models.loading import load

    model: Any = load(model_path, threads=common.threads, device=device)
    named = named_columns(model, columns)
    common.announce_compilation()
    measured: dict[str, float] = model.evaluate(list(data), **named)
    if "units" in measured:
        measured["units"] = int(measured["units"])
    common.say_met(model.report_, "data")
    if form == "json":
        write_json(measured)
        return
    write_table(["measure", "value"], list(measured.items()))
    confusion = getattr(model, "confusion_", None)
    if confusion is not None:
        click.echo()
        _write_confusion(confusion.labels.tolist(), confusion.counts.tolist())


def _write_confusion(labels: list[Any], counts: list[list[int]]) -> None:
    """The whole matrix, or where it is large what is most often taken for what."""
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
