"""fastseq features: Parquet to a document-term matrix."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fastseq.errors import SettingsError
from fastseq.estimator import parameters_of
from fastseq.features.estimators import KINDS, Features, restored
from fastseq.text.analyzer import Analyzer
from fastseq.text.settings import FEATURES_TOKENIZER

from . import options, parameters
from .options import Common, command
from .output import write_pairs
from .progress import Report, progress

if TYPE_CHECKING:
    from fastseq.store.rows import Corpus
    from fastseq.types import Texts

# options that --like can be combined with: it has all other settings of its own
WITH_LIKE = {
    "corpus", "output", "like", "method", "id_column", "text_columns", "on_invalid", "overwrite",
}  # fmt: skip


@command(
    "features",
    "fastseq features docs.parquet -o counts",
    "fastseq features docs.parquet --method tfidf --ngrams 1-2 --min-df 2 -o train.npz",
    "fastseq features new.parquet --like train.npz -o new.npz",
    "fastseq features docs.parquet --method bm25 --language english -o weights.parquet",
)
@options.corpus
@options.file(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    help="OUT.npz (SciPy's sparse CSR) or OUT.parquet (id, term, value), chosen by the suffix; "
    "the terms are written to OUT.terms.parquet.",
)
@options.choice("--method", of=KINDS, default="bow", help="Counts, TF-IDF or BM25 weights.")
@options.overwrite
@click.option(
    "--like", metavar="OUT", help="Use the terms, weights and settings of an earlier OUT."
)
@click.option("--no-norm", is_flag=True, help="tfidf: the same as --norm none.")
@parameters.options_of(
    *KINDS.values(),
    skip=("dtype", *parameters_of(Analyzer)),
    names={kind: method for method, kind in KINDS.items()},
)
@options.id_column
@options.text_column
@parameters.analysis_options(FEATURES_TOKENIZER)
def features(
    common: Common,
    corpus: tuple[Path, ...],
    output: Path,
    overwrite: bool,
    method: str,
    like: str | None,
    id_column: str | None,
    text_columns: tuple[str, ...],
    **settings: Any,
) -> None:
    """Make a document-term matrix: counts, TF-IDF or BM25 weights.

    The matrix has a row for each row of CORPUS, in its order, and a column for each term, in the
    order of OUT.terms.parquet (term, df, idf). The values are those of scikit-learn's
    CountVectorizer and TfidfVectorizer, or what a term adds to the score of
    `fastseq search --model bm25`.
    """
    given = _given(click.get_current_context())
    wrong = [name for name in given if like is not None and name not in WITH_LIKE]
    if wrong:
        raise click.UsageError(f"{_flag(wrong[0])} cannot be given with --like")
    for name in given:
        methods = [m for m, kind in KINDS.items() if name in parameters_of(kind)]
        if methods and method not in methods:
            raise click.UsageError(f"{_flag(name)} is for --method {' or '.join(methods)}")
    if settings.pop("no_norm"):
        if settings["norm"] not in (None, parameters.NONE):
            raise click.UsageError("--no-norm contradicts --norm")
        settings["norm"] = parameters.NONE if method == "tfidf" else None
    from fastseq.store.matrices import Outputs, SavedTerms, read_terms, write_features
    from fastseq.store.outputs import check_output
    from fastseq.store.rows import Corpus

    outputs = Outputs.of(output)
    earlier = None if like is None else Outputs.of(like)
    read = (list(corpus), () if earlier is None else (earlier.matrix, earlier.terms))
    check_output(outputs.matrix, "matrix", read, overwrite=overwrite)
    check_output(outputs.terms, "terms", read, overwrite=overwrite)
    if earlier is None:
        names = ("language", *parameters_of(Analyzer))
        analyzer = parameters.analyzer_of(**{name: settings.pop(name) for name in names})
        own = parameters.given(KINDS[method], settings)
        estimator: Features = KINDS[method](analyzer=analyzer, **own)
        estimator.check()
    else:
        on_invalid = settings["on_invalid"] if "on_invalid" in given else None
        saved = read_terms(earlier.terms)
        estimator = restored(
            Features,  # type: ignore[type-abstract]
            *(saved.settings, saved.statistics, saved.terms, saved.df),
            *(str(earlier.terms), on_invalid),
        )
        if "method" in given and method != estimator.method:
            message = f"{earlier.terms}: contains {estimator.method} features, not {method}"
            raise SettingsError(message)
    estimator.threads = common.threads
    source = Corpus.open(list(corpus), id_column, list(text_columns) or None, [])
    started = time.perf_counter()
    common.announce_compilation()
    with progress(common) as report:
        texts = _Reader(source, report, keep_ids=outputs.matrix.suffix == ".parquet")
        matrix = estimator.fit_transform(texts) if like is None else estimator.transform(texts)
        learned = estimator.learned
        statistics = {"documents": learned.documents, "tokens": learned.tokens}
        terms = SavedTerms(learned.terms, learned.df, estimator.settings(), statistics)
        write_features(outputs, matrix, terms, estimator.weights, texts.ids)
    if common.quiet:
        return
    seconds = max(time.perf_counter() - started, 1e-9)
    rows, columns = matrix.shape
    counts = {"rows": rows, "columns": columns, "values": matrix.nnz, "null texts": texts.nulls}
    write_pairs(
        [
            ("matrix", outputs.matrix),
            ("terms", outputs.terms),
            *((name, f"{count:,}") for name, count in counts.items()),
            ("time", f"{seconds:.2f} s ({rows / seconds:,.0f} documents/s)"),
        ]
    )


class _Reader:
    """Iterator over the texts of a corpus that reports progress and collects the ids."""

    def __init__(self, corpus: Corpus, report: Report | None, keep_ids: bool) -> None:
        self._corpus = corpus
        self._report = report
        self.where = corpus.where
        self.nulls = 0
        self.ids: list[Any] | None = [] if keep_ids and corpus.id_column is not None else None

    def __iter__(self) -> Iterator[Texts]:
        for batch in self._corpus.batches():
            self.nulls += batch.null_texts
            if self.ids is not None:
                self.ids.append(batch.ids)
            yield batch.text
            if self._report is not None:
                self._report("count", batch.first_row + batch.rows, self._corpus.num_rows)


def _given(ctx: click.Context) -> set[str]:
    """The names of the parameters on the command line."""
    default = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, None)
    return {name for name in ctx.params if ctx.get_parameter_source(name) not in default}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
