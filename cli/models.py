"""fastseq predict, test, generate and fill-mask: the use of trained models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastseq.errors import SettingsError
from fastseq.settings import seed_number, whole

from . import options, parameters
from .options import Common, command
from .output import write_json, write_jsonl, write_rows, write_table, write_tsv
from .parameters import COLUMNS
from .progress import progress

if TYPE_CHECKING:
    from fastseq.store.predictions import Predictions

INPUTS = ("text_column", "tokens_column", "value_columns", "series_column")
WHOLE = 12  # maximum number of classes of which the whole confusion matrix is shown


@command(
    "predict",
    "fastseq predict .fastseq/model new.parquet -o labels.parquet --keep text",
    "fastseq predict tagger tagged_test.parquet --format jsonl | head",
)
@options.model
@options.data
@options.file("-o", "--output", metavar="OUT", help="File of predictions: .parquet.")
@options.overwrite
@click.option(
    "--keep", metavar="C", multiple=True, help="Column to copy to the output; may be repeated."
)
@options.id_column
@parameters.column_options(*INPUTS)
@options.form(
    *("jsonl", "tsv"),
    default=None,
    help="Format of the predictions on standard output.  [default: jsonl]",
)
@options.device
def predict(
    common: Common,
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

    DATA is Parquet, JSON Lines or CSV files, folders or globs, or - for standard input, with the
    columns that MODEL was trained on; labels and tags may be missing. Each row has its id (or
    its number), the columns of --keep, and prediction and probability, or tags. Labels keep
    their type.

    A forecaster writes a row for each value: the id and the columns of --keep of the row that the
    value is for (null beyond the end), the series (if there are several), the row in that series,
    and the step, the distance from the last row of the window.
    """
    if output is not None:
        if form is not None:
            raise click.UsageError("--format is for standard output and cannot be combined with -o")
        from fastseq.store.outputs import check_output

        read = (data, model_path)
        check_output(output, "predictions", read, suffixes=(".parquet",), overwrite=overwrite)
    model = _load(common, model_path, device)
    if not hasattr(model, "predict_batches"):
        raise SettingsError(
            f"{model_path}: a {model.kind} model has no predictions for rows: use test, or "
            "generate (language) or fill-mask (BERT)"
        )
    named = parameters.named_columns(model, columns)
    found: Predictions = model.predict_batches(list(data), keep=keep, id_column=id_column, **named)
    with progress(common, prints=output is None) as report:

        def done(rows: int, total: int | None) -> None:
            if report is not None:
                report("predict", rows, total)

        done(0, found.total)
        if output is None:
            _print(found, form or "jsonl", done)
        else:
            rows = found.write(output, done, overwrite)
    common.notify_reports(model.report_, "data")
    if output is not None:
        common.notify(f"{output}: {rows:,} rows")


def _load(common: Common, path: Path, device: str) -> Any:
    from fastseq.models import load

    common.announce_compilation()
    return load(path, threads=common.threads, device=device)


def _print(found: Predictions, form: str, done: Callable[[int, int | None], None]) -> None:
    """Every row on standard output as soon as it is predicted."""
    from fastseq.store.ids import result_rows
    from fastseq.store.predictions import ID

    def rows() -> Iterator[dict[str, Any]]:
        count = 0
        for table in found:
            yield from result_rows(table)
            sys.stdout.flush()
            count += table.num_rows
            done(count, found.total)

    if form == "jsonl":
        write_jsonl(rows())
    else:
        columns = found.schema.names
        cells = ([_cell(row[name]) for name in columns] for row in rows())
        write_tsv(columns, cells, [columns.index(ID)])


def _cell(value: Any) -> Any:
    """Tags, or several values, separated by spaces."""
    return " ".join(map(str, value)) if isinstance(value, list) else value


@command(
    "test",
    "fastseq test .fastseq/model labelled_test.parquet",
    "fastseq test tagger tagged_test.parquet --format json",
)
@options.model
@options.data
@options.form("table", "json")
@parameters.column_options(*COLUMNS)
@options.device
def test(
    common: Common,
    model_path: Path,
    data: tuple[Path, ...],
    form: str,
    device: str,
    **columns: Any,
) -> None:
    """Evaluate a trained model on data with known answers.

    A model of answers (BERT): F1 and exact match, as SQuAD's script normalises texts, and the loss.
    A model of numbers (BERT): Pearson's and Spearman's correlation, R² and the mean squared error.
    A classifier: accuracy, macro-averaged F1 and, in the table, a confusion matrix. A tagger:
    accuracy and, where tags encode spans, precision, recall and F1 of spans, of all and of each
    type, as conlleval counts them and (strict) without spans that violate the tag scheme. A
    language model: nats per unit and perplexity. A pretrained BERT: nats of a masked word, also by
    the frequencies of words alone, accuracy, and the same of following segments. A forecaster: RMSE
    and MAE, and those of forecasting the last value. The unknown rate is the fraction of units that
    are not in the vocabulary.
    """
    model = _load(common, model_path, device)
    measures: dict[str, Any] = model.evaluate(
        list(data), **parameters.named_columns(model, columns)
    )
    if "units" in measures:
        measures["units"] = int(measures["units"])
    common.notify_reports(model.report_, "data")
    # spans without a type, as in word segmentation, have the name that seqeval gives them
    spans, strict = (
        {kind or "_": score._asdict() for kind, score in getattr(model, name, {}).items()}
        for name in ("span_scores_", "strict_span_scores_")
    )
    spans_measured = "f1" in measures and hasattr(model, "tag_scheme_")
    if form == "json":
        if spans_measured:
            measures |= {"tag_scheme": model.tag_scheme_, "spans": spans, "strict_spans": strict}
        write_json(measures)
        return
    write_table(["measure", "value"], list(measures.items()))
    if spans_measured:
        click.echo()
        shown = ("precision", "recall", "f1", "support")
        write_table(
            [f"{model.tag_scheme_} type", *shown, "strict_f1"],
            [
                (kind, *(score[name] for name in shown), strict.get(kind, {}).get("f1", 0.0))
                for kind, score in spans.items()
            ],
        )
    confusion = getattr(model, "confusion_", None)
    if confusion is not None:
        click.echo()
        _write_confusion(confusion.labels.tolist(), confusion.counts.tolist())


def _write_confusion(labels: list[Any], counts: list[list[int]]) -> None:
    """The whole matrix, or the most frequent errors of a large one."""
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


@command(
    "answer",
    'fastseq answer answerer "Where is the cat?" "The cat sat on the mat."',
    'fastseq answer answerer "Who wrote it?" - -k 5 --format json < page.txt',
)
@options.model
@click.argument("question")
@click.argument("context")
@options.number("-k", default=1, help="Number of answers.")
@options.form("table", "json", "jsonl", "tsv")
def answer(
    common: Common, model_path: Path, question: str, context: str, k: int, form: str
) -> None:
    """Answer a question by a part of a context.

    MODEL was trained with `fastseq fit-bert --task answer`. CONTEXT is a text, or - for standard
    input. JSON is a list of {rank, answer, probability, start, stop}: places are in characters, and
    no answer is null, which a model predicts if its training had questions without one.
    """
    whole("k", k, 1)
    from fastseq.models.bert.answering import BertAnswerer

    if context == "-":
        context = sys.stdin.buffer.read().decode("utf-8", "replace")
    model = _load(common, model_path, "auto")
    if not isinstance(model, BertAnswerer):
        raise SettingsError(
            f"{model_path}: a {model.kind} cannot answer questions: train one with fit-bert --task "
            "answer"
        )
    rows = [
        (rank, each.text, each.probability, each.start, each.stop)
        for rank, each in enumerate(model.answer(question, context, k), 1)
    ]
    common.notify_reports(model.report_, "data")
    write_rows(form, ("rank", "answer", "probability", "start", "stop"), rows)


@command(
    "generate",
    'fastseq generate book --prompt "It was " --length 300 --temperature 0.8',
    'fastseq generate book --prompt "It was " --beams 8 --length 20',
    "fastseq generate book --count 5 --top-p 0.9 --seed 7 --format jsonl",
)
@options.model
@click.option("--prompt", default="", metavar="TEXT", help="Text to continue.")
@options.number("--length", default=200, help="Maximum number of units to generate.")
@options.number(
    "--temperature", kind=float, help="Temperature: below 1 more likely text.  [default: 1]"
)
@options.number("--top-k", help="Sample from the N most likely units only.")
@options.number(
    "--top-p",
    kind=float,
    help="Sample from the most likely units of this total probability (nucleus sampling).",
)
@click.option("--greedy", is_flag=True, help="Take the most likely unit instead of sampling.")
@options.number("--beams", help="Beam search: number of beams.")
@options.number(
    "--length-penalty",
    kind=float,
    default=0.0,
    help="Beam search: exponent that favours long texts.",
)
@click.option("--end-with-row", is_flag=True, help="Stop at the end of a row (words only).")
@options.number("--seed", default=0, help="Random seed; each further text adds 1.")
@options.number("--count", default=1, help="Number of texts.")
@options.form(
    *("text", "jsonl"), default="text", help="Output format: text, or {seed, prompt, text} a line."
)
@options.device
def generate(
    common: Common,
    model_path: Path,
    prompt: str,
    length: int,
    seed: int,
    count: int,
    form: str,
    device: str,
    **settings: Any,
) -> None:
    """Generate text with a language model.

    MODEL was trained with --task language. The text continues --prompt; several texts are
    separated by blank lines.
    """
    whole("count", count, 1)
    seed_number(seed)
    if count > 1 and (settings["greedy"] or settings["beams"] is not None):
        flag = "--greedy" if settings["greedy"] else "--beams"
        raise click.UsageError(f"--count is for sampled texts: with {flag} all are the same")
    from fastseq.models.language import LanguageModel

    model = _load(common, model_path, device)
    if not isinstance(model, LanguageModel):
        raise SettingsError(
            f"{model_path}: a {model.kind} cannot generate text, only a language model can"
        )
    texts = (
        (number, model.generate(prompt, length, seed=number, **settings))
        for number in range(seed, seed + count)
    )
    if form == "jsonl":
        write_jsonl(
            {"seed": number, "prompt": prompt, "text": "".join(pieces)} for number, pieces in texts
        )
        return
    for number, pieces in texts:
        click.echo("\n" * (number > seed) + prompt, nl=False)
        for piece in pieces:
            click.echo(piece, nl=False)  # which flushes: a person reads along
        click.echo()


@command(
    "fill-mask",
    "fastseq fill-mask checkpoint 'The capital of France is [MASK].'",
    "fastseq fill-mask .fastseq/model 'the cat [MASK] on the [MASK].' -k 3 --format json",
)
@options.model
@click.argument("text")
@options.number("-k", default=5, help="Words for each mask.")
@options.form("table", "json", "jsonl", "tsv")
def fill_mask(common: Common, model_path: Path, text: str, k: int, form: str) -> None:
    """Find the words that fit the masks of a text.

    MODEL is a checkpoint in Hugging Face's format with a head for masked words, or a model of
    `fastseq pretrain-bert`. Each [MASK] in TEXT is one word piece.
    """
    from fastseq.models.bert.masked import MaskedLanguageModel

    common.announce_compilation()
    found = MaskedLanguageModel.load(model_path, common.threads).fill(text, k)
    rows = [
        (mask, rank, word, probability)
        for mask, words in enumerate(found, 1)
        for rank, (word, probability) in enumerate(words, 1)
    ]
    first = int(len(found) == 1 and form == "table")  # a table for one mask does not repeat it
    names = ("mask", "rank", "word", "probability")
    write_rows(form, names[first:], [row[first:] for row in rows])
