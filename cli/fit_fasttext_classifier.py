"""fastseq fit-fasttext-classifier: Parquet to a text classifier, FastText's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fastseq.models.fasttext.classifier import FastTextClassifier

from .options import (
    FILE,
    Common,
    common_options,
    example,
    model_option,
    pass_common,
    training_options,
)
from .output import coverage_line, write_pairs
from .parameters import (
    COLUMNS,
    Sectioned,
    analyzer_of,
    analyzer_options,
    given_parameters,
    parameter_options,
    with_options,
)
from .progress import fitting


@click.command(
    "fit-fasttext-classifier",
    cls=Sectioned,
    epilog=example(
        "fastseq fit-fasttext-classifier labelled.parquet --valid labelled_test.parquet",
        "fastseq fit-fasttext-classifier labelled.parquet --word-ngrams 2 --learning-rate 0.5",
        "fastseq predict .fastseq/model new.parquet -o labels.parquet --keep text",
    ),
)
@with_options(
    *training_options(model_option("-o", "--output", help="Folder of the model.")),
    click.option(
        "--export", type=FILE, metavar="FILE", help="Write a .bin of fastText's program too."
    ),
    COLUMNS["text_column"].option(),
    COLUMNS["label_column"].option(),
    *parameter_options(FastTextClassifier),
    analyzer_options,
    common_options,
)
@pass_common
def command(
    common: Common,
    /,
    corpus: tuple[Path, ...],
    model_path: Path,
    overwrite: bool,
    resume: bool,
    valid: Path | None,
    export: Path | None,
    text_column: tuple[str, ...],
    label_column: str | None,
    **given: Any,
) -> None:
    """Train FastText's classifier on Parquet files, folders or globs.

    CORPUS has columns of text and label. A linear classifier over the mean of the vectors of a
    text's words and n-grams: it trains in seconds. The model is used as others are: see
    `fastseq predict`, `test` and `info`.
    """
    if export is not None:
        from fastseq.store.outputs import check_output

        check_output(
            export, "fastText model", (corpus, valid, given["vectors"]), suffixes=(".bin",),
            others=[model_path], overwrite=overwrite,
        )  # fmt: skip
    settings = given_parameters(FastTextClassifier, given)
    model = FastTextClassifier(**settings, analyzer=analyzer_of(**given), threads=common.threads)
    common.announce_compilation()
    began = time.perf_counter()
    with fitting(common, model_path, "words", resume) as report:
        model.fit(
            list(corpus), valid=None if valid is None else [valid], path=model_path,
            text_column=list(text_column) or None, label_column=label_column,
            overwrite=overwrite, resume=resume, progress=report,
        )  # fmt: skip
    common.say_met(model.report_, "training", "validation")
    if export is not None:
        model.export(export, overwrite)
    if common.quiet:
        return
    history, learned = model.history_, model.learned
    pairs: list[tuple[str, Any]] = [
        ("model", model_path),
        *([] if export is None else [("export", export)]),
        ("classes", f"{len(learned.labels):,}"),
        ("words", f"{len(learned.encoder.words):,}"),
        ("buckets in use", f"{len(learned.encoder.used):,}"),
        ("parameters", f"{model.n_parameters_:,}"),
        *([("vectors found", coverage_line(learned.coverage))] if learned.coverage else []),
        ("training loss", history["train_loss"][-1]),
    ]
    for name in ("loss", "accuracy", "macro_f1", "micro_f1"):
        if f"valid_{name}" in history:
            pairs.append((f"validation {name.replace('_', ' ')}", history[f"valid_{name}"][-1]))
    if "validation" in model.report_:
        pairs.append(("validation unknown rate", model.report_["validation"].unknown_rate))
    speed = sum(history["words"]) / max(sum(history["seconds"]), 1e-9)
    spent = time.perf_counter() - began
    write_pairs([*pairs, ("time", f"{spent:.2f} s ({speed:,.0f} words/s)")])
