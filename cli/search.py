"""fastseq search: one query to a table or JSON, or a file of queries to a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastseq.errors import DataError, SettingsError, printable, quoted
from fastseq.settings import real, whole
from fastseq.text.weighting import (
    MODELS,
    BM25Parameters,
    DirichletParameters,
    JelinekMercerParameters,
    PL2Parameters,
    TFIDFParameters,
)

from . import options, parameters
from .encoders import sparse_queries, vector_search
from .options import Common, command
from .output import RunRow, write_json, write_jsonl, write_rows, write_trec
from .progress import progress

if TYPE_CHECKING:
    from fastseq.search.explanation import Explanation
    from fastseq.search.feedback import Feedback
    from fastseq.search.hits import Hits
    from fastseq.search.index import Index
    from fastseq.search.snippets import Snippet
    from fastseq.vectors.expansion import Expander

RUN_COLUMNS = ("query_id", "doc_id", "rank", "score")
_BATCH = 1 << 22  # hits in memory while a run is written
_MOST_UNKNOWN = 8  # unknown words of a query that are named
_MOST_NOTICES = 8
_DEPTH = 100  # documents that are ordered by --rerank
_MOST_EMPTY = 3  # queries without words that are named
_WEIGHTS = {"rm3": "original_weight", "rocchio": "beta"}  # the parameter of --feedback-weight


@command(
    "search",
    'fastseq search "parse arguments"',
    'fastseq search "parse arguments" -k 3 --model bm25l --format json',
    "echo parse arguments | fastseq search - --format tsv",
    "fastseq search --queries queries.parquet -k 100 -o run.trec",
    'fastseq search "car insurance" --expand vectors --expand-terms 5',
    "fastseq search '+\"black cat\" -dog pre*' --count",
    "fastseq search cat --filter 'year >= 2000' --sort -year --facet lang",
    'fastseq search "heat transfer" --model dph --feedback rm3',
    "fastseq search --like doc7",
    'fastseq search "how to run another program" --hybrid rrf',
)
@click.argument("query", required=False)
@options.folder("index", "-i", "--index", help="Folder of the index.")
@options.number("-k", default=10, help="Documents per query.")
@options.choice(
    "--model", of=MODELS, default=None,
    help="Ranking model. bm25 is Lucene's. Of several fields, bm25f counts a word once; the others "
    "add up the scores in each.  [default: bm25; bm25f with --field; dot with "
    "--impacts]",
)
@parameters.options_of(
    BM25Parameters,
    TFIDFParameters,
    DirichletParameters,
    JelinekMercerParameters,
    PL2Parameters,
    skip=("variant",),
    names={
        BM25Parameters: "BM25",
        TFIDFParameters: "tfidf",
        DirichletParameters: "dirichlet",
        JelinekMercerParameters: "jm",
        PL2Parameters: "pl2",
    },
)
@options.file(
    "--expand",
    "vectors",
    metavar="VECTORS",
    help="Query expansion: also search for the nearest words in these word vectors.",
)
@options.number("--expand-terms", help="Nearest words per word of the query.  [default: 3]")
@options.number(
    "--expand-weight",
    kind=float,
    help="Weight of a nearest word, times its cosine; query words have weight 1.  [default: 0.1]",
)
@options.choice(
    "--feedback",
    of=_WEIGHTS,
    default=None,
    help="Pseudo relevance feedback: add terms of the best documents to the query.",
)
@options.number("--feedback-documents", help="Documents whose terms are added.  [default: 10]")
@options.number("--feedback-terms", help="Terms of the documents.  [default: 20]")
@options.number(
    "--feedback-weight",
    kind=float,
    help="rm3: weight of the query itself; rocchio: weight of the documents (beta).  [default: "
    "rm3: 0.8, rocchio: 0.5]",
)
@click.option(
    "--like",
    metavar="ID",
    help="Instead of a QUERY: documents like the one with this id.",
)
@click.option(
    "--dense",
    is_flag=True,
    help="Search by vectors alone: the documents whose vectors have the largest cosine with the "
    "query's. The index must have vectors.",
)
@options.choice(
    "--hybrid",
    of=("rrf", "sum"),
    default=None,
    help="Search by words and by vectors: rrf adds 1 / (60 + rank) of both rankings, sum their "
    "scores, brought to 0 to 1.",
)
@options.number(
    "--hybrid-weight",
    kind=float,
    help="Weight of the ranking by vectors, from 0 to 1; that of words has the rest.  "
    "[default: 0.5]",
)
@options.file(
    "--sparse", metavar="MODEL",
    help="Encode the query with this checkpoint of a learned-sparse model, for an index of its "
    "--impacts.",
)  # fmt: skip
@options.number("--hybrid-depth", help="Documents of each ranking, at least -k.  [default: 100]")
@options.file(
    "--dense-model",
    metavar="MODEL",
    help="Folder of the encoder of queries.  [default: that of the index]",
)
@click.option(
    "--dense-exact",
    is_flag=True,
    help="Compare all vectors, also where the index has graphs (--dense-index usearch).",
)
@options.file(
    "--rerank",
    metavar="MODEL",
    help="Order the best documents by a model of fit-bert --task rerank, which reads their stored "
    "text.",
)
@options.number("--rerank-depth", help="Documents that are ordered, at least -k.  [default: 100]")
@options.number(
    "--rerank-weight",
    kind=float,
    help="Weight of the model's score; the rest is that of the search, both brought to 0 to 1.  "
    "[default: 1]",
)
@options.file(
    "--queries",
    type=options.DATA,
    help="Many queries: Parquet, JSON Lines or CSV (query_id, text), or TSV (a header line is "
    "skipped); text may be compressed (.gz, .zst). - is standard input; its format, and that of a "
    "file with another suffix, is recognised by the content.",
)
@options.file(
    "-o",
    "--output",
    metavar="RUN",
    help="Run file of the --queries: .parquet, .trec or .tsv; .trec.gz and "
    ".trec.zst are compressed.",
)
@options.overwrite
@click.option(
    "--filter",
    "condition",
    metavar="FILTER",
    help="Condition on stored columns, which all hits meet: \"year >= 2000 and lang in ('en', "
    "'de')\". It does not change scores.",
)
@options.choice(
    "--syntax",
    of=("query", "plain"),
    default=None,
    help="Syntax of queries: query has \"phrases\", +must, -mustnot, AND, OR, NOT, (), "
    "field:word, word^2, pre*, w?ld*, word~1, field:[2000 TO 2010] and /regular expressions/; "
    "plain is words.  [default: query; plain with --queries]",
)
@options.choice(
    "--operator", of=("or", "and"), default="or", help="Whether any word must occur, or all."
)
@click.option(
    "--field",
    "fields",
    metavar="F^W",
    multiple=True,
    help="Field of the index to search instead of the text, with a weight: title^3; may be "
    "repeated.",
)
@click.option(
    "--field-b",
    metavar="F=B",
    multiple=True,
    help="Length normalisation of a field under bm25f: title=0.5; may be repeated.",
)
@click.option(
    "--sort",
    metavar="C",
    multiple=True,
    help="Stored column to sort by instead of the score: year, -year or year:desc; may be "
    "repeated, or several: -year,title. Nulls come last.",
)
@click.option(
    "--group",
    metavar="C",
    help="Stored column of which each value has its best document alone.",
)
@options.number("--offset", default=0, help="Documents to leave out before the first.")
@click.option(
    "--after",
    metavar="CURSOR",
    help="Only the documents after a page: start is the first one. The cursor of the next page is "
    "printed on standard error.",
)
@click.option(
    "--facet",
    "facets",
    metavar="C",
    multiple=True,
    help="Stored column of which the values in all matching documents are counted: lang, or bins: "
    "year:10, date:month, price:0,10,100; may be repeated.",
)
@options.number("--facet-values", default=10, help="Values per facet, the most frequent first.")
@click.option(
    "--count", is_flag=True, help="Print the number of all matching documents, and no documents."
)
@click.option(
    "--snippets",
    is_flag=True,
    help="Show the passage of each document that matches best instead of its stored columns, with "
    "the words that match in bold; in JSON as text with highlights, in code points.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Print how the score of each document comes about, as a tree of numbers.",
)
@options.file(
    "--synonyms",
    metavar="FILE",
    help="Groups of words, of which each is searched for as all: a line for each, with commas "
    "between words, or a, b => c.",
)
@options.choice(
    "--device",
    of=("cpu", "cuda"),
    default="cpu",
    help="Device that searches for the --queries; cuda is an NVIDIA GPU.",
)
@options.form(
    *("table", "json", "jsonl", "tsv", "trec"),
    default=None,
    help="Output format.  [default: table; trec with --queries]",
)
@options.skip_bad_lines
def search(
    common: Common,
    query: str | None,
    index_path: Path,
    k: int,
    model: str | None,
    vectors: Path | None,
    expand_terms: int | None,
    expand_weight: float | None,
    feedback: str | None,
    feedback_documents: int | None,
    feedback_terms: int | None,
    feedback_weight: float | None,
    like: str | None,
    dense: bool,
    hybrid: str | None,
    hybrid_weight: float | None,
    hybrid_depth: int | None,
    dense_model: Path | None,
    dense_exact: bool,
    sparse: Path | None,
    rerank: Path | None,
    rerank_depth: int | None,
    rerank_weight: float | None,
    queries: Path | None,
    output: Path | None,
    overwrite: bool,
    condition: str | None,
    syntax: str | None,
    operator: str,
    fields: tuple[str, ...],
    field_b: tuple[str, ...],
    sort: tuple[str, ...],
    group: str | None,
    offset: int,
    after: str | None,
    facets: tuple[str, ...],
    facet_values: int,
    count: bool,
    snippets: bool,
    explain: bool,
    synonyms: Path | None,
    device: str,
    form: str | None,
    skip_bad_lines: bool,
    **weighting: Any,
) -> None:
    """Search an index: one QUERY, a file of them, or documents like another.

    QUERY - reads the query from standard input. JSON is a list of {rank, id, score, fields},
    where fields has the stored columns; with --facet it is {hits, facets}. A document that does not
    match the query is never returned; ties keep the order of the corpus. Malformed text is searched
    for as plain words, with a notice on standard error. Words of a QUERY that no document contains
    are named there, with similar words of the index: by spelling, or by the n-grams
    of VECTORS that have some (fastText's); so are words that the index leaves out, as stop words.
    Of --queries those words are counted, and some queries that have no other are named.
    """
    if (query is not None) + (queries is not None) + (like is not None) != 1:
        raise click.UsageError("give either a QUERY, --queries FILE or --like ID")
    _refuse("--like", like, {
        "--expand": vectors, "--feedback": feedback, "--field": fields, "--syntax": syntax,
        "--operator": operator != "or", "--synonyms": synonyms,
    })  # fmt: skip
    for option, given in (("--expand", vectors), ("--feedback", feedback)):
        _refuse(option, given, {
            "--field": fields, "--operator and": operator != "or", "--explain": explain,
            "--count": count,
        })  # fmt: skip
    single: dict[str, Any] = {
        "--sort": sort, "--group": group, "--offset": offset, "--after": after, "--facet": facets,
        "--count": count, "--snippets": snippets, "--explain": explain,
    }  # fmt: skip
    of_words = {name: value for name, value in single.items() if name != "--snippets"}
    of_words |= {"--like": like, "--device": device != "cpu"}
    _refuse("--hybrid", hybrid, of_words | {"--dense": dense})
    _refuse("--dense", dense, of_words | {
        "--expand": vectors, "--feedback": feedback, "--field": fields, "--syntax": syntax,
        "--operator": operator != "or", "--synonyms": synonyms, "--model": model,
        "--field-b": field_b,
        **{f"--{name.replace('_', '-')}": value is not None for name, value in weighting.items()},
    })  # fmt: skip
    for option, weight in (("--hybrid-weight", hybrid_weight), ("--rerank-weight", rerank_weight)):
        if weight is not None:
            real(option, weight, lambda w: 0 <= w <= 1, "a number from 0 to 1")
    if hybrid_depth is not None:
        whole("--hybrid-depth", hybrid_depth, 1)
    _refuse("--rerank", rerank, of_words | {"--sparse": sparse})
    if rerank is None and not (rerank_depth is None and rerank_weight is None):
        raise click.UsageError("--rerank-depth and --rerank-weight require --rerank")
    if hybrid is None and not (hybrid_weight is None and hybrid_depth is None):
        raise click.UsageError("--hybrid-weight and --hybrid-depth require --hybrid")
    if dense_model is not None and not dense and hybrid is None:
        raise click.UsageError("--dense-model requires --dense or --hybrid")
    if dense_exact and not dense and hybrid is None:
        raise click.UsageError("--dense-exact requires --dense or --hybrid")
    _refuse("--sparse", sparse, {
        "--dense": dense, "--hybrid": hybrid, "--like": like, "--syntax": syntax,
        "--operator": operator != "or", "--field": fields, "--synonyms": synonyms,
        "--count": count, "--snippets": snippets,
    })  # fmt: skip
    _refuse("--after", after, {"--offset": offset})
    _refuse("--count", count, {
        "--sort": sort, "--group": group, "--offset": offset, "--after": after, "--facet": facets,
        "--snippets": snippets, "--explain": explain, "--format": form,
    })  # fmt: skip
    if model == "bm25f" and not fields:
        raise click.UsageError("--model bm25f requires --field")
    if device != "cpu" and queries is None:
        raise click.UsageError("--device requires --queries FILE")
    for option, value in single.items():
        if value and query is None:
            raise click.UsageError(f"{option} requires a QUERY")
    if output is not None and (queries is None or form is not None):
        raise click.UsageError("-o requires --queries, and its suffix is the format")
    shown: dict[str, Any] = {"--facet": facets, "--explain": explain, "--snippets": snippets}
    for option, value in shown.items():
        if value and form not in (None, "table", "json"):
            raise click.UsageError(f"{option} requires --format table or json")
    if k < 1:
        raise SettingsError(f"k must be at least 1, not {k}")
    if output is not None:
        from fastseq.store.outputs import check_output
        from fastseq.store.runs import RUN_SUFFIXES

        read = (queries, index_path, vectors)
        check_output(output, "run", read, suffixes=RUN_SUFFIXES, overwrite=overwrite)
    if vectors is None and not (expand_terms is None and expand_weight is None):
        raise click.UsageError("--expand-terms and --expand-weight require --expand VECTORS")
    changes = {
        "documents": feedback_documents,
        "terms": feedback_terms,
        _WEIGHTS.get(feedback or "", ""): feedback_weight,
    }
    if feedback is None and any(value is not None for value in changes.values()):
        raise click.UsageError("--feedback-documents, -terms and -weight require --feedback")
    from fastseq import Index
    from fastseq.devices import check_device
    from fastseq.search.model_names import model_by_name

    check_device(device)
    weights = _weights(fields)
    ranking = None  # the default of the index
    if model is not None or weights or any(value is not None for value in weighting.values()):
        ranking = model_by_name(model or ("bm25f" if weights else "bm25"), **weighting)
    if field_b:
        ranking = _with_field_b(ranking, weights, field_b)
    common.announce_compilation()
    expand = None
    if vectors is not None:
        expand = _expander(
            common, vectors, skip_bad_lines, terms=expand_terms, weight=expand_weight
        )
    language: dict[str, Any] = {
        "filter": condition, "fields": weights, "operator": operator,
        "syntax": syntax or ("plain" if queries is not None else "query"),
    }  # fmt: skip
    searched: dict[str, Any] = {
        "model": ranking, "threads": common.threads, "filter": condition
    }  # fmt: skip
    if like is not None:
        index = Index.open(index_path)
        hits = index.more_like(_utf8(like), k=_most_hits(k, index), **searched)
        _write_hits(common, hits, form or "table", condition is not None, faceted=False)
        return
    if synonyms is not None:
        from fastseq import SynonymMap

        language["synonyms"] = SynonymMap.load(synonyms)
    searched |= {"expand": expand, "feedback": _feedback(feedback, changes), **language}
    by_words = not dense and hybrid is None
    if dense:
        searched = {"filter": condition, "threads": common.threads}
    fusion = {"fusion": hybrid, "weight": hybrid_weight, "depth": hybrid_depth}
    search_of = partial(
        vector_search, common, encoder=dense_model, exact=dense_exact, fusion=fusion
    )
    order: Any = None
    if rerank is not None:
        order = _reranker(common, rerank, rerank_depth, rerank_weight)
    if query is not None:
        text = _text_of(query)
        index = Index.open(index_path)
        if count:
            notices: list[str] = []
            click.echo(index.count(text, **language, notices=notices))
            _name_notices(common, notices)
            return
        pages: dict[str, Any] = {}
        if by_words:
            pages = {
                "sort": sort or None, "group": group, "offset": offset,
                "after": None if after == "start" else after, "facets": facets,
                "facet_values": facet_values,
            }  # fmt: skip
        find: Any = index.search if by_words else search_of(index)
        find = find if order is None else partial(order, find, index)
        wanted: Any = text if sparse is None else sparse_queries(common, index, sparse, [text])[0]
        hits = find(wanted, k=_most_hits(k, index), **searched, **pages)
        trees = None
        if explain:
            trees = [hits.explain(rank) for rank in range(1, int(hits.counts[0]) + 1)]
        _write_hits(
            common, hits, form or "table", condition is not None, bool(facets),
            hits.snippets() if snippets else None, trees,
        )  # fmt: skip
        _name_notices(common, hits.notices)
        if after is not None and (cursor := hits.cursor()) is not None:
            common.notify(f"next page: --after {cursor}")
        if not common.quiet and not dense and sparse is None:
            words = " ".join(hits.query_texts())
            _name_removed_words(common, words, index)
            _suggest_words(common, words, index, expand)
    elif queries is not None:
        from fastseq.store.runs import read_queries

        index = Index.open(index_path)
        column = index.impacts_column if sparse is None else None
        query_ids, texts = read_queries(queries, column)
        if sparse is not None:
            texts = sparse_queries(common, index, sparse, texts)
        k = _most_hits(k, index)
        if by_words:
            searched["device"] = device
        find = index.search if by_words else search_of(index)
        find = find if order is None else partial(order, find, index)
        find = partial(find, k=k, **searched)
        if output is not None:
            _write_run(common, output, query_ids, texts, find, max(_BATCH // k, 1))
        else:
            hits = find(texts)
            rows = _run_rows(query_ids, hits)
            if form in (None, "trec"):
                write_trec(rows)
            else:
                write_rows(form, RUN_COLUMNS, rows, ids=(0, 1))
            _name_notices(common, hits.notices)
        if not common.quiet and not dense:
            both = [pair for pair in zip(query_ids, texts, strict=True) if isinstance(pair[1], str)]
            _count_removed_words(common, [id for id, _ in both], [text for _, text in both], index)


def _reranker(common: Common, path: Path, given: int | None, weight: Any) -> Callable[..., Hits]:
    """A function that searches with another, in an index, and orders the hits by a model."""
    from fastseq.models import load
    from fastseq.models.bert.reranking import BertReranker

    depth = _DEPTH if given is None else whole("rerank_depth", given, 1)
    model = load(path, threads=common.threads)
    if not isinstance(model, BertReranker):
        raise SettingsError(
            f"{path}: a {model.kind} cannot rank: train a model with fit-bert --task rerank"
        )

    def search(find: Any, index: Index, queries: Any, k: int, **searched: Any) -> Hits:
        hits: Hits = find(queries, k=_most_hits(max(depth, k), index), **searched)
        return hits.rerank(model.score_texts, k, 1.0 if weight is None else weight)

    return search


def _refuse(option: str, given: Any, others: dict[str, Any]) -> None:
    """Raise UsageError where an option is given, and so is one that does not go with it."""
    for other, value in others.items():
        if given and value:
            raise click.UsageError(f"{option} cannot be combined with {other}")


def _name_notices(common: Common, notices: Sequence[str]) -> None:
    """Print what was not searched for as asked: the first few, and how many more there are."""
    for notice in notices[:_MOST_NOTICES]:
        common.notify(f"Notice: {notice}")
    if len(notices) > _MOST_NOTICES:
        common.notify(f"Notice: {len(notices) - _MOST_NOTICES:,} more like these")


def _feedback(name: str | None, parameters: dict[str, Any]) -> Feedback | None:
    if name is None:
        return None
    from fastseq import RM3, Rocchio

    given = {key: value for key, value in parameters.items() if value is not None}
    try:
        return RM3(**given) if name == "rm3" else Rocchio(**given)
    except SettingsError as error:
        parameter, _, problem = str(error).partition(" ")
        option = parameter if parameter in ("documents", "terms") else "weight"
        raise SettingsError(f"--feedback-{option} {problem}") from None


def _utf8(id: str) -> str:
    """The id of the command line. Raises DataError for one that is not UTF-8."""
    try:
        id.encode()
    except UnicodeEncodeError:
        raise DataError(f"the id {quoted(id)} is not UTF-8 text") from None
    return id


def _most_hits(k: int, index: Index) -> int:
    """The hits of a query, at most k and at least 1: a larger k would only reserve memory."""
    return min(k, max(len(index), 1))


def _expander(common: Common, vectors: Path, skip_bad_lines: bool, **options: Any) -> Expander:
    from fastseq.vectors.expansion import Expander
    from fastseq.vectors.words import WordVectors

    given = {name: value for name, value in options.items() if value is not None}
    known = WordVectors.load(vectors, common.threads, skip_bad_lines)
    return Expander(known, **given, threads=common.threads)


def _weights(fields: Sequence[str]) -> dict[str, float] | None:
    """The weights of --field, such as title^3."""
    found: dict[str, float] = {}
    for text in fields:
        name, sign, weight = text.rpartition("^")
        if not sign:
            name, weight = text, "1"
        if name in found:
            raise SettingsError(f"--field: {quoted(name)} is named twice")
        try:
            found[name] = float(weight)
        except ValueError:
            raise SettingsError(
                f"--field: the weight of {name!r} is {weight!r}; expected a number as in title^3"
            ) from None
    return found or None


def _with_field_b(model: Any, weights: dict[str, float] | None, given: Sequence[str]) -> Any:
    """The model BM25F with the --field-b, such as title=0.5."""
    from fastseq import BM25F

    if not isinstance(model, BM25F) or weights is None:
        raise click.UsageError("--field-b requires --field and the model bm25f")
    found = {name: model.b_of(name) for name in weights}
    for text in given:
        name, sign, b = text.rpartition("=")
        try:
            found[name] = float(b) if sign else float("nan")
        except ValueError:
            found[name] = float("nan")
        if name not in weights or not 0 <= found[name] <= 1:
            raise SettingsError(
                f"--field-b: {text!r} is not one of the fields and a number from 0 to 1, such as "
                "title=0.5"
            )
    return BM25F(model.k1, found)


def _write_facets(hits: Hits) -> None:
    """The counts of each facet as a table."""
    for name, facet in hits.facets[0].items():
        rows: list[tuple[Any, ...]] = [
            (_bin(value), count)
            for value, count in zip(facet.values, facet.counts.tolist(), strict=True)
        ]
        rows += [("(other)", facet.other)] if facet.other else []
        rows += [("(none)", facet.missing)] if facet.missing else []
        click.echo()
        write_rows("table", (name, "documents"), rows)


def _bin(value: Any) -> Any:
    """A value, or the text of a bin of numbers."""
    return f"{value[0]} to {value[1]}" if isinstance(value, tuple) else value


def _write_passages(
    hits: Hits, snippets: list[Snippet] | None, trees: list[Explanation] | None
) -> None:
    """Each hit with its snippet and explanation below."""
    styled = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    for i, (id, score) in enumerate(zip(hits.ids[0], hits.scores[0].tolist(), strict=False)):
        click.echo(printable(f"{i + 1}  {score:.4g}  {id}"))
        if snippets is not None:
            text = snippets[i].ansi() if styled else str(snippets[i])
            click.echo(f"   {text}")
        if trees is not None:
            click.echo(printable("\n".join(f"   {line}" for line in str(trees[i]).splitlines())))


def _snippet_json(snippet: Snippet) -> dict[str, Any]:
    return {
        "text": snippet.text,
        "highlights": [list(span) for span in snippet.highlights],
        "offset": snippet.offset,
        "column": snippet.column,
    }


def _facets_json(hits: Hits) -> dict[str, Any]:
    """The counts of the facets: {column: {counts: [{value, count}], other, missing}}."""
    found = {}
    for name, facet in hits.facets[0].items():
        both = zip(facet.values, facet.counts.tolist(), strict=True)
        counts = [
            {"value": list(value) if isinstance(value, tuple) else value, "count": count}
            for value, count in both
        ]
        found[name] = {"counts": counts, "other": facet.other, "missing": facet.missing}
    return found


def _write_hits(
    common: Common, hits: Hits, form: str, filtered: bool, faceted: bool = False,
    snippets: list[Snippet] | None = None, trees: list[Explanation] | None = None,
) -> None:  # fmt: skip
    """The hits of one query, with the facets, the snippets and the explanations."""
    from fastseq.search.hits import result_dicts, result_rows

    if form == "json" and (faceted or snippets is not None or trees is not None):
        found = result_dicts(hits)
        for hit, snippet in zip(found, snippets or (), strict=False):
            hit["snippet"] = _snippet_json(snippet)
        for hit, tree in zip(found, trees or (), strict=False):
            hit["explanation"] = tree.to_dict()
        write_json({"hits": found, "facets": _facets_json(hits)} if faceted else found)
        return
    if (snippets is not None or trees is not None) and len(hits.ids[0]):
        _write_passages(hits, snippets, trees)
        if faceted:
            _write_facets(hits)
        return

    if form in ("table", "tsv"):
        columns, rows = result_rows(hits)
        if rows or form == "tsv":
            write_rows(form, columns, rows, ids=(2,))
        else:
            that = " that passes the filter" if filtered else ""
            common.notify(f"No document{that} matches this query.")
        if faceted:
            _write_facets(hits)
    elif form == "trec":
        scores = hits.scores[0].tolist()
        ranked = enumerate(zip(hits.ids[0], scores, strict=False), 1)
        write_trec(("1", id, rank, score) for rank, (id, score) in ranked)
    else:
        (write_json if form == "json" else write_jsonl)(result_dicts(hits))


def _name_removed_words(common: Common, text: str, index: Index) -> None:
    """Name the words of a query that the index does not have because its analysis removes them."""
    removed = [f"{quoted(word)} ({reason})" for word, reason in index.removed_words(text)]
    if removed:
        more = ", …" if len(removed) > _MOST_UNKNOWN else ""
        common.notify(f"not searched for: {', '.join(removed[:_MOST_UNKNOWN])}{more}")


def _count_removed_words(
    common: Common, query_ids: Sequence[Any], texts: list[str], index: Index
) -> None:
    """Count the words of many queries that the analysis removes; name queries without others."""
    removed, empty = index.count_removed_words(texts)
    parts = []
    for why, count in sorted(removed.items()):
        what = why if why == "stop word" else f"word {why}"
        parts.append(f"{count:,} {what if count == 1 else what.replace('word', 'words')}")
    said = [f"not searched for: {', '.join(parts)}"] if parts else []
    if empty:
        named = ", ".join(quoted(query_ids[query]) for query in empty[:_MOST_EMPTY])
        more = ", …" if len(empty) > _MOST_EMPTY else ""
        have = f"{'query' if len(texts) == 1 else 'queries'} {'has' if len(empty) == 1 else 'have'}"
        said.append(f"{len(empty):,} of {len(texts):,} {have} no word to search for: {named}{more}")
    if said:
        common.notify(f"Notice: {'; '.join(said)}")


def _suggest_words(common: Common, text: str, index: Index, expand: Expander | None) -> None:
    """Name the words of a query that no document contains, with similar words of the index."""
    vectors = None if expand is None else expand.vectors
    unknown = index.unknown_words(text)
    for word in unknown[:_MOST_UNKNOWN]:
        if vectors is not None and vectors.subwords is not None:
            from fastseq.vectors.expansion import suggestions

            words = index.frequent_terms()
            similar = suggestions(word, words, index.knows, vectors, threads=common.threads)
        else:
            similar = index.suggest(word)
        question = f"; did you mean {' or '.join(map(quoted, similar))}?" if similar else ""
        common.notify(f"no documents contain {quoted(word)}{question}")
    if len(unknown) > _MOST_UNKNOWN:
        common.notify(f"no documents contain {len(unknown) - _MOST_UNKNOWN:,} other words either")


def _write_run(
    common: Common,
    output: Path,
    query_ids: list[Any],
    texts: list[str],
    find: Callable[[list[str]], Any],
    step: int,
) -> None:
    """Search for `step` queries at a time, so that memory does not grow with their number."""
    from fastseq.store.runs import RunWriter

    written, notices = 0, dict[str, None]()
    with RunWriter(output) as run, progress(common) as report:
        for first in range(0, len(texts), step):
            hits = find(texts[first : first + step])
            ends = [0, *hits.counts.cumsum().tolist()]
            scores = hits.scores[hits.rows >= 0]
            run.append(query_ids[first : first + step], ends, list(chain(*hits.ids)), scores)
            written += ends[-1]
            notices |= dict.fromkeys(hits.notices)
            if report is not None:
                report("search", min(first + step, len(texts)), len(texts))
    _name_notices(common, [*notices])
    common.notify(f"{output}: {len(query_ids):,} queries, {written:,} documents")


def _run_rows(query_ids: list[str] | list[int], hits: Any) -> Iterator[RunRow]:
    """(query id, document id, rank, score) of every hit, query after query."""
    for query_id, ids, scores in zip(query_ids, hits.ids, hits.scores.tolist(), strict=True):
        for rank, (doc_id, score) in enumerate(zip(ids, scores, strict=False), 1):
            yield query_id, doc_id, rank, score


def _text_of(query: str) -> str:
    """The query, or standard input for "-". Raises DataError unless it is valid UTF-8."""
    raw = sys.stdin.buffer.read() if query == "-" else os.fsencode(query)
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        where = "standard input" if query == "-" else "QUERY"
        raise DataError(f"{where} is not UTF-8 text: byte {error.start} is wrong") from error
