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

from .options import (
    Common,
    common_options,
    corpus_options,
    example,
    overwrite_option,
    pass_common,
)
from .output import write_pairs
from .parameters import (
    NONE,
    Sectioned,
    analyzer_of,
    analyzer_options,
    given_parameters,
    parameter_options,
    with_options,
)
from .progress import Report, progress

if TYPE_CHECKING:
    from fastseq.store.corpus import Corpus
    from fastseq.types import Texts

# options that --like can be combined with: it has all other settings of its own
WITH_LIKE = (
    "corpus",
    "output",
    "like",
    "method",
    "id_column",
    "text_columns",
    "on_invalid",
    "overwrite",
)


@click.command(
    "features",
    cls=Sectioned,
    epilog=example(
        "fastseq features docs.parquet -o counts",
        "fastseq features docs.parquet --method tfidf --ngrams 1-2 --min-df 2 -o train.npz",
        "fastseq features new.parquet --like train.npz -o new.npz",
        "fastseq features docs.parquet --method bm25 --language english -o weights.parquet",
    ),
)
@click.argument("corpus", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT",
    required=True,
    help="OUT.npz (SciPy's sparse CSR) or, if it ends so, OUT.parquet: id, term, value; beside it "
    "OUT.terms.parquet.",
)
@click.option(
    "--method",
    type=click.Choice(tuple(KINDS)),
    default="bow",
    show_default=True,
    help="Counts, TF-IDF or BM25 weights.",
)
@overwrite_option
@click.option("--like", metavar="OUT", help="Take terms, weights and settings from an earlier OUT.")
@click.option("--no-norm", is_flag=True, help="tfidf: the same as --norm none.")
@with_options(
    *parameter_options(
        *KINDS.values(),
        skip=("dtype", *parameters_of(Analyzer)),
        names={kind: method for method, kind in KINDS.items()},
    )
)
@corpus_options
@analyzer_options
@common_options
@pass_common
@click.pass_context
def command(
    ctx: click.Context,
    common: Common,
    /,
    corpus: tuple[str, ...],
    output: Path,
    overwrite: bool,
    method: str,
    like: str | None,
    id_column: str | None,
    text_columns: tuple[str, ...],
    **settings: Any,
) -> None:
    """Make a document-term matrix: counts, TF-IDF or BM25 weights.

    A row for each row of CORPUS, in its order, and a column for each term, in the order of
    OUT.terms.parquet (term, df, idf). The values are those of scikit-learn's CountVectorizer and
    TfidfVectorizer, or what a term adds to the score of `fastseq search --model bm25`.
    """
    given = _given(ctx)
    if like is not None:
        wrong = [name for name in given if name not in WITH_LIKE]
        if wrong:
            raise click.UsageError(f"{_flag(wrong[0])} cannot be given: --like brings its own")
    for name in given:
        methods = [m for m, kind in KINDS.items() if name in parameters_of(kind)]
        if methods and method not in methods:
            raise click.UsageError(f"{_flag(name)} is for --method {' or '.join(methods)}")
    if settings.pop("no_norm"):
        if settings["norm"] not in (None, NONE):
            raise click.UsageError("--no-norm contradicts --norm")
        settings["norm"] = NONE if method == "tfidf" else None
    from fastseq.store.corpus import Corpus
    from fastseq.store.matrices import Outputs, SavedTerms, write_features
    from fastseq.store.outputs import check_output

    outputs = Outputs.of(output)
    earlier = None if like is None else Outputs.of(like)
    read = (list(corpus), () if earlier is None else (earlier.matrix, earlier.terms))
    check_output(outputs.matrix, "matrix", read, overwrite=overwrite)
    check_output(outputs.terms, "terms", read, overwrite=overwrite)
    if like is None:
        features = _features(method, settings)
    else:
        features = _earlier(like, method if "method" in given else None, settings, given)
    features.threads = common.threads
    source = Corpus.open(list(corpus), id_column, list(text_columns) or None, [])
    started = time.perf_counter()
    common.announce_compilation()
    with progress(common) as report:
        texts = _Reader(source, report, keep_ids=outputs.matrix.suffix == ".parquet")
        matrix = features.fit_transform(texts) if like is None else features.transform(texts)
        learned = features.learned
        statistics = {"documents": learned.documents, "tokens": learned.tokens}
        write_features(
            outputs,
            matrix,
            SavedTerms(learned.terms, learned.df, features.settings(), statistics),
            features.weights,
            texts.ids,
        )
    if common.quiet:
        return
    seconds = max(time.perf_counter() - started, 1e-9)
    rows, columns = matrix.shape
    write_pairs(
        [
            ("matrix", outputs.matrix),
            ("terms", outputs.terms),
            ("rows", f"{rows:,}"),
            ("columns", f"{columns:,}"),
            ("values", f"{matrix.nnz:,}"),
            ("null texts", f"{texts.null_texts:,}"),
            ("time", f"{seconds:.2f} s ({rows / seconds:,.0f} documents/s)"),
        ]
    )


class _Reader:
    """The texts of a corpus, once, told of as they are read; and its ids."""

    def __init__(self, corpus: Corpus, report: Report | None, keep_ids: bool) -> None:
        self._corpus = corpus
        self._report = report
        self.where = corpus.where
        self.null_texts = 0
        self.ids: list[Any] | None = [] if keep_ids and corpus.id_column is not None else None

    def __iter__(self) -> Iterator[Texts]:
        for batch in self._corpus.batches():
            self.null_texts += batch.null_texts
            if self.ids is not None:
                self.ids.append(batch.ids)
            yield batch.text
            if self._report is not None:
                self._report("count", batch.first_row + batch.rows, self._corpus.num_rows)


def _features(method: str, settings: dict[str, Any]) -> Features:
    """The features that the options describe."""
    names = ("language", *parameters_of(Analyzer))
    analyzer = analyzer_of(**{name: settings.pop(name) for name in names})
    made = KINDS[method](analyzer=analyzer, **given_parameters(KINDS[method], settings))
    made.check()
    return made


def _earlier(like: str, method: str | None, settings: dict[str, Any], given: set[str]) -> Features:
    """The features of an earlier output."""
    from fastseq.store.matrices import Outputs, read_terms

    saved = read_terms(like)
    where = str(Outputs.of(like).terms)
    made: Features = restored(
        Features,  # type: ignore[type-abstract]
        saved.settings,
        saved.statistics,
        saved.terms,
        saved.df,
        where,
        settings["on_invalid"] if "on_invalid" in given else None,
    )
    if method is not None and method != made.method:
        raise SettingsError(f"{where}: holds {made.method} features, not {method}")
    return made


def _given(ctx: click.Context) -> set[str]:
    """The parameters that the command line names."""
    default = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, None)
    return {name for name in ctx.params if ctx.get_parameter_source(name) not in default}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
