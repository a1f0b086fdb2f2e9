"""fastseq fit-…, pretrain-bert, phrases: Parquet to trained models and word vectors.

Commands are made when they are needed, since their options are the parameters that estimators
declare.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastseq.estimator import parameters_of
from fastseq.settings import whole
from fastseq.text.settings import FEATURES_TOKENIZER

from . import options, parameters
from .options import Common, command
from .output import coverage_line, write_pairs, write_rows
from .parameters import CLASSIFY, COLUMNS, FORECAST, LANGUAGE, TAG, TASKS
from .progress import fitting

if TYPE_CHECKING:
    from fastseq.models.sequence import NetworkModel, SequenceModel
    from fastseq.models.word_vectors.base import VectorModel

ESTIMATORS = {
    CLASSIFY: "classifier.SequenceClassifier",
    TAG: "tagger.SequenceTagger",
    LANGUAGE: "language.LanguageModel",
    FORECAST: "forecaster.Forecaster",
    "bert-classify": "bert.finetuning.BertClassifier",
    "bert-regress": "bert.finetuning.BertRegressor",
    "bert-tag": "bert.tagging.BertTagger",
    "bert-answer": "bert.answering.BertAnswerer",
    "bert-rerank": "bert.reranking.BertReranker",
    "bert-embed": "bert.embedding.BertEmbedder",
    "pretrain-bert": "bert.pretraining.BertPretrainer",
    "fit-word2vec": "word_vectors.word2vec.Word2Vec",
    "fit-fasttext": "fasttext.vectors.FastText",
    "fit-glove": "word_vectors.glove.GloVe",
    "fit-fasttext-classifier": "fasttext.classifier.FastTextClassifier",
    "phrases": "word_vectors.phrases.Phrases",
}
REGRESS, PAIR, ANSWER, RERANK, EMBED = "regress", "pair", "answer", "rerank", "embed"
# their estimators
BERT_TASKS = {
    CLASSIFY: "bert-classify", REGRESS: "bert-regress", TAG: "bert-tag", ANSWER: "bert-answer",
    RERANK: "bert-rerank", EMBED: "bert-embed",
}  # fmt: skip
_LABELLED = (CLASSIFY, REGRESS, PAIR, ANSWER, RERANK)
_TEXTS = (*_LABELLED, EMBED)
BERT_COLUMNS = {
    "text_column": COLUMNS["text_column"]._replace(
        tasks=_TEXTS,
        default="text; pair and embed: a and b; answer: question and context; rerank: query and "
        "passage",
    ),
    "label_column": COLUMNS["label_column"]._replace(
        tasks=_LABELLED,
        help="label, or answers.",
        default="label; answer: answers or answer; rerank: label, score or negatives",
    ),
    "tokens_column": COLUMNS["tokens_column"],
    "tags_column": COLUMNS["tags_column"],
}
CELLS = {
    "lstm": "a long short-term memory network (LSTM)",
    "gru": "a gated recurrent unit network (GRU)",
    "rnn": "a plain recurrent network (RNN)",
}
# command: a paragraph of its help page, and examples
VECTORS = {
    "fit-word2vec": (
        "Words that occur in similar contexts get similar vectors: see `fastseq neighbors`, "
        "`analogy` and `test-vectors`.",
        "fastseq fit-word2vec corpus.parquet --architecture cbow --dimensions 200 --epochs 10",
        "fastseq neighbors vectors london",
    ),
    "fit-fasttext": (
        "The vector of a word is the mean of its own and those of its character n-grams: unknown "
        "words have vectors too, misspelt ones near the correct spelling. For a text classifier "
        "see `fastseq fit-fasttext-classifier`.",
        "fastseq neighbors vectors accomodation",
        "fastseq export vectors model.bin --format fasttext",
    ),
    "fit-glove": (
        "Co-occurrences of words are counted once; the products of word vectors approximate the "
        "logarithms of the counts: see `fastseq neighbors`, `analogy` and `test-vectors`.",
        "fastseq fit-glove corpus.parquet --window 15 --dimensions 200 --epochs 50",
        "fastseq analogy vectors man king woman",
    ),
}


def estimator(name: str) -> Any:
    """The estimator of a task or a command."""
    module, _, kind = ESTIMATORS[name].rpartition(".")
    return getattr(import_module(f"fastseq.models.{module}"), kind)


def _run(
    common: Common, model: Any, unit: str, corpus: Sequence[Path], path: Path, resume: bool,
    report: str = "progress", **more: Any,
) -> float:  # fmt: skip
    """Train a model in the folder `path`. Return the seconds it took."""
    common.announce_compilation()
    started = time.perf_counter()
    with fitting(common, path, unit, resume) as shown:
        model.fit(list(corpus), path=path, resume=resume, **{report: shown}, **more)
    return time.perf_counter() - started


def _time(seconds: float, speed: float, unit: str) -> tuple[str, str]:
    return "time", f"{seconds:.2f} s ({speed:,.0f} {unit}/s)"


def _words_per_second(history: dict[str, list[Any]]) -> float:
    words, seconds = (sum(filter(None, history[name])) for name in ("words", "seconds"))
    return float(words / max(seconds, 1e-9))


# ---- recurrent networks


def _recurrent(name: str) -> click.Command:
    cell = name.removeprefix("fit-")
    kinds = {estimator(task): task for task in TASKS}
    skipped = ("cell",) if cell == "rnn" else ("cell", "nonlinearity")

    @command(
        name,
        *(
            f"fastseq {name} labelled.parquet --valid labelled_test.parquet --epochs 3",
            f"fastseq {name} tagged.parquet --bidirectional --crf -o tagger",
            f"fastseq {name} book.parquet --task language --unit char --layers 2 -o book",
            f"fastseq {name} sunspots.parquet --task forecast --value-column sunspots --window 48",
        ),
        help=f"""Train {CELLS[cell]} on Parquet files, folders or globs.

        Columns of CORPUS: text and label for a classifier, tokens and tags for a tagger, text for
        a language model, numbers in chronological order for a forecaster (each file a series, or
        --series-column). The model, its training history and a checkpoint are written to MODEL.
        Without --valid nothing is held out and the last weights are kept; with it, those of the
        best epoch.
        """,
    )
    @options.training(options.folder("model", "-o", "--output", help="Model folder."))
    @options.choice(
        "--task",
        of=TASKS,
        default=None,
        help="What to learn.  [default: by the columns of CORPUS]",
    )
    @options.file("--plot", help="Plot the learning curve: .png, .svg, .pdf.")
    @options.file(
        "--gradient-flow",
        help="Plot the gradient norm by number of time steps back: .png, .svg, .pdf; or write "
        "it to .parquet (when, steps_before_last, norm).",
    )
    @options.several(*(column.option() for column in COLUMNS.values()))
    @parameters.options_of(*kinds, skip=skipped, names=kinds)
    def run(common: Common, **given: Any) -> None:
        _fit_recurrent(common, cell, **given)

    return run


def _fit_recurrent(
    common: Common,
    cell: str,
    corpus: tuple[Path, ...],
    task: str | None,
    valid: Path | None,
    model_path: Path,
    overwrite: bool,
    resume: bool,
    plot: Path | None,
    gradient_flow: Path | None,
    **settings: Any,
) -> None:
    columns: dict[str, Any] = {name: settings.pop(name) or None for name in COLUMNS}
    named = [COLUMNS[name] for name, value in columns.items() if value is not None]
    chosen = task or _guessed(corpus, named)
    for column in named:
        _check_task(column.flag, column.tasks, chosen, task)
    make = estimator(chosen)
    given = parameters.given(make, settings)
    for name, value in settings.items():
        if value not in (None, ()):
            tasks = [each for each in TASKS if name in parameters_of(estimator(each))]
            flags = parameters.flags_of(parameters_of(estimator(tasks[0]))[name])
            _check_task(flags[0].partition("/")[0], tasks, chosen, task)
    if "embeddings" in given:
        given.setdefault("embedding", None)  # the dimensions of the file
    from fastseq import plotting

    read = (corpus, valid, given.get("embeddings"))
    if plot is not None:
        others = (model_path, gradient_flow)
        plotting.check_plot(plot, read, others=others, overwrite=overwrite)
    if gradient_flow is not None:
        plotting.check_gradient_flow(gradient_flow, read, others=[model_path], overwrite=overwrite)
    model: SequenceModel[Any] = make(cell=cell, threads=common.threads, **given)
    unit = {"char": "characters", "byte": "bytes"}.get(given.get("unit", ""), "tokens")
    unit = "values" if chosen == FORECAST else unit
    seconds = _run(
        common, model, unit, corpus, model_path, resume, overwrite=overwrite, valid=valid,
        gradient_flow=gradient_flow is not None, **columns,
    )  # fmt: skip
    common.notify_reports(model.report_, "training", "validation")
    if plot is not None and model.history_ is not None:
        plotting.learning_curve(model.history_, plot, overwrite)
    if gradient_flow is not None:
        plotting.gradient_flow(model.gradient_flow_, gradient_flow, overwrite)
    if not common.quiet:
        summary = _summary_network(model, unit, seconds)
        write_pairs([("model", model_path), ("task", chosen), *summary])


def _check_task(flag: str, tasks: Sequence[str], chosen: str, given: str | None) -> None:
    """Reject an option for other tasks."""
    if chosen not in tasks:
        raise click.UsageError(
            f"{flag} is for --task {' or '.join(tasks)}"
            + ("" if given else f"; by its columns CORPUS is for --task {chosen}")
        )


def _guessed(corpus: tuple[Path, ...], named: Iterable[parameters.Column]) -> str:
    """The task of the named columns, or else of those of CORPUS."""
    for column in named:
        if len(column.tasks) == 1:
            return column.tasks[0]
    from fastseq.store.columns import LABEL_NAME, TAGS_NAME, TEXT_NAME, TOKENS_NAME, VALUE_NAME
    from fastseq.store.dataset import open_sources

    data = open_sources(list(corpus), (TEXT_NAME, VALUE_NAME))
    columns = list(data.types)
    tagged = TOKENS_NAME in columns and TAGS_NAME in columns
    if (LABEL_NAME in columns) != tagged:
        return TAG if tagged else CLASSIFY
    raise click.UsageError(
        f"cannot infer the task from the columns of {data.name} ({', '.join(columns)}): "
        "give --task classify, tag, language or forecast"
    )


def _summary_network(
    model: NetworkModel[Any], unit: str, seconds: float
) -> Iterator[tuple[str, Any]]:
    """The trained model and its measures."""
    yield "parameters", f"{model.n_parameters_:,}"
    if hasattr(model, "tag_scheme_"):
        yield "tag scheme", model.tag_scheme_
    coverage = getattr(model, "embeddings_coverage_", None)
    if coverage is not None:
        yield "embeddings found", coverage_line(coverage)
    history = model.history_
    rows = [] if history is None else list(history.rows())
    if not rows or history is None:
        return
    measure = model.monitored
    best = rows[-1]
    if history.measures:
        measured = [row for row in rows if math.isfinite(row[f"valid_{measure}"])]
        choose = max if model.measures[measure] else min  # ties: the first, as in training
        best = choose(measured or rows[-1:], key=lambda row: row[f"valid_{measure}"])
        yield "best epoch", f"{best['epoch']} of {len(rows)}"
    else:
        yield "epochs", len(rows)
    yield "training loss", best["train_loss"]
    for name in history.measures:
        yield f"validation {name.replace('_', ' ')}", best[f"valid_{name}"]
    if history.measures and hasattr(model, "vocabulary_"):
        yield "validation unknown rate", model.report_["validation"].unknown_rate
    yield _time(seconds, sum(row["units_per_second"] for row in rows) / len(rows), unit)


# ---- word vectors


def _vectors(name: str) -> click.Command:
    kind = estimator(name)
    text, *examples = VECTORS[name]
    output = options.file(
        "-o", "--output", "path", metavar="VECTORS", default=".fastseq/vectors", show_default=True,
        help="Folder of the vectors.",
    )  # fmt: skip

    @command(
        name,
        *(f"fastseq {name} corpus.parquet -o vectors", *examples),
        help=f"""Learn word vectors from Parquet files, folders or globs ({kind.__name__}).

        Every row of CORPUS is a sentence. {text}
        """,
    )
    @options.training(output)
    @options.file(
        "--start",
        metavar="VECTORS",
        help="Continue from these vectors, with their dimensions and n-grams by default.",
    )
    @options.text_column
    @parameters.options_of(kind)
    @parameters.analysis_options(FEATURES_TOKENIZER)
    def run(
        common: Common,
        corpus: tuple[Path, ...],
        path: Path,
        overwrite: bool,
        resume: bool,
        start: Path | None,
        valid: Path | None,
        text_columns: tuple[str, ...],
        **given: Any,
    ) -> None:
        own = parameters.given(kind, given)
        model = kind(**own, analyzer=parameters.analyzer_of(**given), threads=common.threads)
        seconds = _run(
            common, model, "words", corpus, path, resume, report="report", overwrite=overwrite,
            valid=valid and [valid], text_column=list(text_columns) or None, start=start,
        )  # fmt: skip
        if not common.quiet:
            write_pairs([("vectors", path), *_summary_vectors(model, seconds)])

    return run


def _summary_vectors(model: VectorModel, seconds: float) -> Iterator[tuple[str, Any]]:
    """The trained model and its measures."""
    history, found = model.history_, model.vectors_
    yield "words", f"{len(found):,}"
    yield "dimensions", found.dimensions
    if "cooccurrences" in found.statistics:
        yield "co-occurrences", f"{found.statistics['cooccurrences']:,}"
    yield "epochs", len(history["epoch"])
    for name, shown in (("train_loss", "training loss"), ("valid_loss", "validation loss")):
        if name in history:
            loss = history[name][-1]
            yield shown, "none: the rows have no two different words" if loss is None else loss
    yield _time(seconds, _words_per_second(history), "words")


def _phrases(name: str) -> click.Command:
    kind = estimator(name)

    @command(
        name,
        "fastseq phrases corpus.parquet",
        "fastseq phrases corpus.parquet --by count --passes 2 -k 100 --format tsv",
        "fastseq phrases corpus.parquet --scoring npmi --threshold 0.5 --common-words of,the,and",
    )
    @options.corpus
    @options.number("-k", default=20, help="Number of phrases.")
    @options.choice("--by", of=("score", "count"), default="score", help="Order of the phrases.")
    @options.text_column
    @parameters.options_of(kind)
    @parameters.analysis_options(FEATURES_TOKENIZER)
    @options.form("table", "json", "jsonl", "tsv")
    def run(
        common: Common,
        corpus: tuple[Path, ...],
        k: int,
        by: str,
        text_columns: tuple[str, ...],
        form: str,
        **given: Any,
    ) -> None:
        """Find phrases: neighbouring words that occur together more often than by chance.

        CORPUS is Parquet files, folders or globs; phrases do not cross rows. The score is
        (count(ab) - min_count) N / (count(a) count(b)), with N the number of different words and
        pairs. JSON is a list of {rank, phrase, score, count}. `fastseq fit-word2vec --phrases`
        learns vectors of phrases.
        """
        whole("k", k, 1)
        own = parameters.given(kind, given)
        if own.get("scoring") == "npmi":
            own.setdefault("threshold", 0.5)
        finder = kind(**own, analyzer=parameters.analyzer_of(**given), threads=common.threads)
        common.announce_compilation()
        started = time.perf_counter()
        found = finder.fit(list(corpus), text_column=list(text_columns) or None).phrases_
        if by == "count":
            found = sorted(found, key=lambda each: -each[2])
        rows = [(rank, *each) for rank, each in enumerate(found[:k], 1)]
        if rows or form != "table":
            write_rows(form, ("rank", "phrase", "score", "count"), rows)
        common.notify(f"{len(found):,} phrases in {time.perf_counter() - started:.1f} s")

    return run


# ---- FastText's classifier


def _fasttext_classifier(name: str) -> click.Command:
    kind = estimator(name)

    @command(
        name,
        "fastseq fit-fasttext-classifier labelled.parquet --valid labelled_test.parquet",
        "fastseq fit-fasttext-classifier labelled.parquet --word-ngrams 2 --learning-rate 0.5",
        "fastseq predict .fastseq/model new.parquet -o labels.parquet --keep text",
    )
    @options.training(options.folder("model", "-o", "--output", help="Model folder."))
    @options.file("--export", help="Also write the model in fastText's .bin format.")
    @COLUMNS["text_column"].option(tasks=False)
    @COLUMNS["label_column"].option(tasks=False)
    @parameters.options_of(kind)
    @parameters.analysis_options(FEATURES_TOKENIZER)
    def run(
        common: Common,
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
        """Train FastText's text classifier on Parquet files, folders or globs.

        CORPUS has columns of text and label. The model is a linear classifier over the mean of the
        vectors of a text's words and n-grams, and trains in seconds: see `fastseq predict`, `test`
        and `info`.
        """
        if export is not None:
            from fastseq.store.outputs import check_output

            check_output(
                export, "fastText model", (corpus, valid, given["vectors"]), suffixes=(".bin",),
                others=[model_path], overwrite=overwrite,
            )  # fmt: skip
        own = parameters.given(kind, given)
        model = kind(**own, analyzer=parameters.analyzer_of(**given), threads=common.threads)
        seconds = _run(
            common, model, "words", corpus, model_path, resume, overwrite=overwrite,
            valid=valid and [valid], text_column=list(text_column) or None,
            label_column=label_column,
        )  # fmt: skip
        common.notify_reports(model.report_, "training", "validation")
        if export is not None:
            model.export(export, overwrite)
        if common.quiet:
            return
        history, learned = model.history_, model.learned
        pairs: list[tuple[str, Any]] = [
            ("model", model_path),
            *([("export", export)] if export else []),
        ]
        for shown, count in {
            "classes": len(learned.labels), "words": len(learned.encoder.words),
            "buckets in use": len(learned.encoder.used), "parameters": model.n_parameters_,
        }.items():  # fmt: skip
            pairs.append((shown, f"{count:,}"))
        if learned.coverage:
            pairs.append(("vectors found", coverage_line(learned.coverage)))
        pairs.append(("training loss", history["train_loss"][-1]))
        for measure in ("loss", "accuracy", "macro_f1", "micro_f1"):
            if f"valid_{measure}" in history:
                value = history[f"valid_{measure}"][-1]
                pairs.append((f"validation {measure.replace('_', ' ')}", value))
        if "validation" in model.report_:
            pairs.append(("validation unknown rate", model.report_["validation"].unknown_rate))
        write_pairs([*pairs, _time(seconds, _words_per_second(history), "words")])

    return run


# ---- BERT


def _bert(name: str) -> click.Command:
    names = {estimator(kind): task for task, kind in BERT_TASKS.items()}

    @command(
        name,
        "fastseq fit-bert labelled.parquet --base all-MiniLM-L6-v2 --valid labelled_test.parquet",
        "fastseq fit-bert scored.parquet --task regress --base all-MiniLM-L6-v2",
        "fastseq fit-bert pairs.parquet --task pair --text-column a --text-column b --base MiniLM",
        "fastseq fit-bert tagged.parquet --task tag --base all-MiniLM-L6-v2 -o tagger",
        "fastseq fit-bert squad.parquet --task answer --base all-MiniLM-L6-v2 -o answerer",
    )
    @options.training(options.folder("model", "-o", "--output", help="Model folder."))
    @options.choice(
        "--task", of=(*_TEXTS, TAG), default=CLASSIFY,
        help="What to learn: labels of texts, numbers of texts, labels or numbers of pairs of "
        "texts, answers to questions in a context, relevance to queries, vectors by pairs of texts "
        "of the same meaning, or tags of words.",
    )  # fmt: skip
    @options.several(*(column.option() for column in BERT_COLUMNS.values()))
    @parameters.options_of(*names, skip=("pairs",), names=names)
    def run(
        common: Common,
        corpus: tuple[Path, ...],
        model_path: Path,
        overwrite: bool,
        resume: bool,
        valid: Path | None,
        task: str,
        **given: Any,
    ) -> None:
        """Fine-tune a BERT checkpoint on Parquet files, folders or globs.

        CORPUS has columns of text and label: strings, integers or booleans to classify, numbers for
        --task regress. --task pair reads two columns of text, a and b unless they are named, and
        learns labels, or numbers where the label is a fraction. --task tag reads lists of tokens
        and of tags, as long. --task answer reads a question, a context and its answers: a column
        `answers` as in SQuAD, or `answer` and `answer_start`. --task rerank reads a query, a
        passage and a label from 0 to 1, or a query, a positive and a list of negatives. --task
        embed reads pairs without labels; `fastseq export` writes its encoder. CHECKPOINT is a
        folder in Hugging Face's format. The model has the tokenizer and all weights: see
        `fastseq predict`, `test` and `info`.
        """
        if given["base"] is None:
            raise click.UsageError("give --base: the folder of a checkpoint of BERT")
        columns: dict[str, Any] = {name: given.pop(name) or None for name in BERT_COLUMNS}
        for name, value in columns.items():
            if value is not None:
                _check_task(BERT_COLUMNS[name].flag, BERT_COLUMNS[name].tasks, task, task)
        make = estimator(_bert_kind(task, corpus, columns["label_column"]))
        own = parameters.given(make, given)
        for option, value in given.items():
            if value not in (None, ()):
                having = [each for each in names if option in parameters_of(each)]
                flag = parameters.flags_of(parameters_of(having[0])[option])[0]
                if task == PAIR:
                    raise click.UsageError(f"{flag} is not for pairs with such labels")
                _check_task(flag, [names[each] for each in having], task, task)
        pairs = {"pairs": True} if task == PAIR else {}
        model = make(**own, **pairs, threads=common.threads)
        seconds = _run(
            common, model, "tokens", corpus, model_path, resume, overwrite=overwrite, valid=valid,
            **columns,
        )  # fmt: skip
        common.notify_reports(model.report_, "training", "validation")
        if not common.quiet:
            summary = _summary_network(model, "tokens", seconds)
            write_pairs([("model", model_path), ("task", task), *summary])

    return run


def _bert_kind(task: str, corpus: tuple[Path, ...], label_column: str | None) -> str:
    """The name of the estimator: of pairs, by the type of the label."""
    if task != PAIR:
        return BERT_TASKS[task]
    from fastseq.store.columns import LABEL_NAME, is_fraction
    from fastseq.store.dataset import open_sources

    label = label_column or LABEL_NAME
    data = open_sources(list(corpus), (label,))
    return BERT_TASKS[REGRESS if is_fraction(data, label) else CLASSIFY]


def _pretrain(name: str) -> click.Command:
    kind = estimator(name)

    @command(
        name,
        "fastseq pretrain-bert corpus.parquet --layers 2 --hidden 128 --heads 2 --epochs 5",
        "fastseq pretrain-bert corpus.parquet --valid held_out.parquet --export checkpoint",
        "fastseq pretrain-bert corpus.parquet --base all-MiniLM-L6-v2 --learning-rate 5e-5",
    )
    @options.training(options.folder("model", "-o", "--output", help="Model folder."))
    @options.file(
        "--export", metavar="FOLDER", help="Also write a checkpoint in Hugging Face's format."
    )
    @COLUMNS["text_column"].option(tasks=False)
    @parameters.options_of(kind, skip=("device", "precision"))
    def run(
        common: Common,
        corpus: tuple[Path, ...],
        model_path: Path,
        overwrite: bool,
        resume: bool,
        valid: Path | None,
        export: Path | None,
        text_column: tuple[str, ...],
        **given: Any,
    ) -> None:
        """Pretrain BERT on Parquet files, folders or globs of texts.

        The model learns to predict masked words, and whether a segment of text follows another.
        Each row of CORPUS is a document; its sentences end with . ! ? or a line break. The
        vocabulary of word pieces is learned from CORPUS (which needs pip install
        'fastseq[tokenizers]'), unless --tokenizer or --base has one. See `fastseq fill-mask`,
        `test`, `info` and `export`; a checkpoint is what `fit-bert --base` and `embed` read.
        """
        if export is not None:
            from fastseq.models.bert.writing import check_target

            check_target(export, overwrite)
            if export.resolve() == model_path.resolve():
                raise click.UsageError("--export and --output are the same folder")
        model = kind(**parameters.given(kind, given), threads=common.threads)
        seconds = _run(
            common, model, "tokens", corpus, model_path, resume, overwrite=overwrite, valid=valid,
            text_column=list(text_column) or None,
        )  # fmt: skip
        common.notify_reports(model.report_, "training", "validation")
        if export is not None:
            model.export(export, overwrite)
        if not common.quiet:
            written = [("model", model_path), *([("export", export)] if export else [])]
            words = ("vocabulary", f"{len(model.tokenizer_):,} word pieces")
            write_pairs([*written, words, *_summary_network(model, "tokens", seconds)])

    return run


fit_lstm = fit_gru = fit_rnn = _recurrent
fit_bert = _bert
pretrain_bert = _pretrain
fit_word2vec = fit_fasttext = fit_glove = _vectors
fit_fasttext_classifier = _fasttext_classifier
phrases = _phrases
