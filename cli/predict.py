"""fastseq predict: labels, tags or forecasts for the rows of Parquet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fastseq.errors import SettingsError

from .options import (
    Common,
    check_output,
    common_options,
    device_option,
    example,
    format_option,
    model_argument,
    pass_common,
)
from .output import write_jsonl, write_tsv

_AT_ONCE = 1 << 20  # bytes of rows held while they are printed


@click.command(
    "predict",
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
    help="Where the predictions go: .parquet.",
)
@click.option("--keep", metavar="C", multiple=True, help="Column to hand on; may be repeated.")
@click.option("--id-column", metavar="C", help="Column of ids.  [default: id, doc_id or _id]")
@format_option(
    "jsonl", "tsv", help="Form of the predictions on standard output.  [default: jsonl, without -o]"
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
    keep: tuple[str, ...],
    id_column: str | None,
    form: str | None,
    device: str,
) -> None:
    """Label, tag or forecast with a trained model.

    DATA is Parquet files, folders or globs with the columns that MODEL was trained on, the answers
    left out or not. Every row gets its id (else its number), the columns of --keep, and what MODEL
    says: prediction and probability, tags, or values. Labels keep their type.
    """
    if output is not None:
        if form is not None:
            raise click.UsageError("--format is for standard output: leave -o out")
        check_output(output, (".parquet",))
    from fastseq.models.loading import load

    model = load(model_path, threads=common.threads, device=device)
    if not hasattr(model, "predict_file"):
        raise SettingsError(
            f"{model_path}: a language model has no answers for rows: use generate or test"
        )
    common.announce_compilation()

    def predict(path: Path) -> int:
        rows: int = model.predict_file(list(data), path, keep=keep, id_column=id_column)
        common.say_met(model.report_, "data")
        return rows

    if output is not None:
        rows = predict(output)
        common.say(f"{output}: {rows:,} rows")
        return
    with tempfile.TemporaryDirectory(prefix="fastseq-") as folder:
        path = Path(folder) / "predictions.parquet"
        predict(path)
        _print(path, form or "jsonl")


def _print(path: Path, form: str) -> None:
    """The rows of a file of predictions on standard output."""
    from fastseq.store.sources import open_sources

    (source,) = open_sources(path)
    columns = source.schema.names

    def rows() -> Iterator[dict[str, Any]]:
        for batch in source.read(columns, _AT_ONCE):
            yield from batch.to_pylist()

    if form == "jsonl":
        write_jsonl(rows())
    else:
        write_tsv(columns, ([_cell(row[name]) for name in columns] for row in rows()))


def _cell(value: Any) -> Any:
    """Tags, and several values, side by side."""
    return " ".join(map(str, value)) if isinstance(value, list) else value
