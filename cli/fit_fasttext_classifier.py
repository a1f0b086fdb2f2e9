"""fastseq fit-fasttext-classifier: Parquet to a classifier of texts, FastText's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from .options import (
    Common,
    analyzer_of,
    analyzer_options,
    check_output,
    common_options,
    example,
    model_option,
    pass_common,
)
from .output import write_pairs
from .progress import training

FILE = click.Path(path_type=Path)


@click.command(
    "fit-fasttext-classifier",
    epilog=example(
        "fastseq fit-fasttext-classifier labelled.parquet --valid labelled_test.parquet",
        "fastseq fit-fasttext-classifier labelled.parquet --word-ngrams 2 --learning-rate 0.5",
        "fastseq predict .fastseq/model new.parquet -o labels.parquet --keep text",
    ),
)
@click.argument("corpus", nargs=-1, required=True, type=FILE)
@model_option("-o", "--output", help="Folder of the model to write.")
@click.option("--overwrite", is_flag=True, help="Replace the model that stands there.")
@click.option("--valid", type=FILE, metavar="FILE", help="Parquet to measure on after every epoch.")
@click.option(
    "--export", type=FILE, metavar="FILE", help="Write a model of fastText's program too: .bin."
)
@click.option(
    "--text-column",
    "text_columns",
    metavar="C",
    multiple=True,
    help="Column of text; may be repeated.  [default: text]",
)
@click.option("--label-column", metavar="C", help="Column of labels.  [default: label]")
@click.option(
    "--label-separator",
    metavar="S",
    help="What stands between the labels of a row with several, such as a comma.",
)
@click.option("--dimensions", type=int, default=100, show_default=True, help="Of a row.")
@click.option(
    "--loss",
    type=click.Choice(["softmax", "hierarchical", "negative", "ova"]),
    default="softmax",
    show_default=True,
    help="Softmax; over a tree, for many labels; negative sampling; one against all, for rows "
    "with several labels.",
)
@click.option(
    "--word-ngrams",
    type=int,
    default=1,
    show_default=True,
    help="Words of the longest n-gram of words.",
)
@click.option(
    "--low", type=int, default=0, show_default=True, help="Fewest characters of an n-gram of them."
)
@click.option(
    "--high", type=int, default=0, show_default=True, help="Most of them; 0 for no such n-grams."
)
@click.option(
    "--buckets", type=int, default=2_000_000, show_default=True, help="That n-grams are hashed to."
)
@click.option(
    "--min-count", type=int, default=1, show_default=True, help="Rarer words have no row."
)
@click.option(
    "--negatives", type=int, default=5, show_default=True, help="Labels drawn, with that loss."
)
@click.option("--vectors", type=FILE, metavar="FILE", help="Word vectors to begin with.")
@click.option("--epochs", type=int, default=5, show_default=True, help="Passes over CORPUS.")
@click.option(
    "--learning-rate", type=float, default=0.1, show_default=True, help="At first; it falls to 0."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random.")
@click.option("--memory", default="1GB", show_default=True, help="For the text, such as 256MB.")
@analyzer_options
@common_options
@pass_common
def command(
    common: Common,
    /,
    corpus: tuple[Path, ...],
    model_path: Path,
    overwrite: bool,
    valid: Path | None,
    export: Path | None,
    text_columns: tuple[str, ...],
    label_column: str | None,
    **given: Any,
) -> None:
    """Train FastText's classifier on Parquet files, folders or globs.

    CORPUS has columns of text and label. A text is the mean of the vectors of its words and of
    their n-grams, a linear layer tells its label: it trains in seconds. The model is used as
    others are: see `fastseq predict`, `test` and `info`.
    """
    if export is not None:
        check_output(export, (".bin",))
    from fastseq.models.fasttext.classifier import FastTextClassifier

    names = {*FastTextClassifier().get_params(), "low", "high"} - {"analyzer", "threads"}
    settings = {name: given.pop(name) for name in list(given) if name in names}
    model = FastTextClassifier(**settings, analyzer=analyzer_of(**given), threads=common.threads)
    common.announce_compilation()
    began = time.perf_counter()
    with training(common, "words") as report:
        model.fit(
            list(corpus), valid=None if valid is None else [valid], path=model_path,
            text_column=list(text_columns) or None, label_column=label_column,
            overwrite=overwrite, progress=report,
        )  # fmt: skip
    common.say_met(model.report_, "training", "validation")
    if export is not None:
        model.export(export)
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
