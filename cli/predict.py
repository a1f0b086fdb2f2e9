"""fastseq predict: labels, tags or forecasts for rows of Parquet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastseq.errors import SettingsError

from .options import (
    Common,
    common_options,
    device_option,
    example,
    format_option,
    model_argument,
    overwrite_option,
    pass_common,
)
from .output import write_jsonl, write_tsv
from .parameters import INPUTS, Sectioned, column_options, named_columns
from .progress import progress

if TYPE_CHECKING:
    from fastseq.store.predictions import Predictions


@click.command(
    "predict",
    cls=Sectioned,
    epilog=example(
        "fastseq predict .fastseq/model new.parquet -o labels.parquet --keep text",
        "fastseq predict tagger tagged_test.parquet --format jsonl | head",
    ),
)
@model_argument
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="File of predictions: .parquet.",
)
@overwrite_option
@click.option(
    "--keep", metavar="C", multiple=True, help="Column to copy to the output; may be repeated."
)
@click.option("--id-column", metavar="C", help="Column of ids.  [default: id, doc_id or _id]")
@column_options(*INPUTS)
@format_option(
    "jsonl", "tsv", help="Format of the predictions on standard output.  [default: jsonl]"
)
@device_option
@common_options
@pass_common
def command(
    common: Common,
    /,
    model_path: Path,
    data: tuple[Path, ...],
    output: Path | None,
    overwrite: bool,
    keep: tuple[str, ...],
    id_column: str | None,
    form: str | None,
    device: str,
    **columns: Any,
) -> None:
    """Predict labels, tags or values with a trained model.

    DATA is Parquet files, folders or globs with the columns that MODEL was trained on; labels and
    tags may be missing. Each row has its id (or its number), the columns of --keep, and prediction
    and probability, or tags. Labels keep their type.

    A forecaster writes a row for each value: the id and the columns of --keep of the row that the
    value is for (null beyond the end), the series (of several), the row in that series, and the
    step, the distance from the last row of the window.
    """
    if output is not None:
        if form is not None:
            raise click.UsageError("--format is for standard output: leave -o out")
        from fastseq.store.outputs import check_output

        read = (data, model_path)
        check_output(output, "predictions", read, suffixes=(".parquet",), overwrite=overwrite)
    from fastseq.models.loading import load

    model: Any = load(model_path, threads=common.threads, device=device)
    if not hasattr(model, "predict_batches"):
        raise SettingsError(
            f"{model_path}: a language model has no predictions for rows: use generate or test"
        )
    named = named_columns(model, columns)
    common.announce_compilation()
    found: Predictions = model.predict_batches(list(data), keep=keep, id_column=id_column, **named)
    with progress(common, prints=output is None) as report:

        def told(done: int, total: int | None) -> None:
            if report is not None:
                report("predict", done, total)

        told(0, found.total)
        if output is None:
            _print(found, form or "jsonl", told)
        else:
            rows = found.write(output, told, overwrite)
    common.say_met(model.report_, "data")
    if output is not None:
        common.say(f"{output}: {rows:,} rows")


def _print(found: Predictions, form: str, told: Callable[[int, int | None], None]) -> None:
    """Every row on standard output as soon as it is predicted."""

    def rows() -> Iterator[dict[str, Any]]:
        done = 0
        for table in found:
            yield from table.to_pylist()
            sys.stdout.flush()
            done += table.num_rows
            told(done, found.total)

    if form == "jsonl":
        write_jsonl(rows())
    else:
        columns = found.schema.names
        write_tsv(columns, ([_cell(row[name]) for name in columns] for row in rows()))


def _cell(value: Any) -> Any:
    """Tags, or several values, separated by spaces."""
    return " ".join(map(str, value)) if isinstance(value, list) else value
