"""`Index`: build one from a corpus, open it, search it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastseq.errors import SettingsError
from fastseq.index.segment import Segment
from fastseq.search.hits import Hits
from fastseq.search.ranking import BM25, RankingModel
from fastseq.search.searcher import (
    Expand,
    Query,
    Searcher,
    are_known,
    expanded,
    raw_words,
    removed_words,
)
from fastseq.settings import function, string, strings, whole

if TYPE_CHECKING:
    from fastseq.index.build import Progress
    from fastseq.text.analyzer import Analyzer

_DEFAULT = BM25()


class Index:
    """An inverted index in a folder.

    Attributes
    ----------
    path : the folder
    summary : the numbers of documents, terms, postings and tokens; after `build` also null_texts
        and seconds
    """

    def __init__(self, path: Path, segment: Segment) -> None:
        self.path = path
        self.summary: dict[str, Any] = dict(segment.folder.statistics)
        self._segment = segment
        self._searcher = Searcher(segment)

    @staticmethod
    def build(
        corpus: Any, path: str | Path, *, id_column: str | None = None,
        text_columns: str | list[str] | None = None, store: str | list[str] | None = None,
        analyzer: Analyzer | None = None, memory: str | int = "1GB", threads: int | None = None,
        overwrite: bool = False, progress: Progress | None = None,
    ) -> Index:  # fmt: skip
        """Index a corpus into a folder and open it.

        Parameters
        ----------
        corpus : Parquet, JSON Lines or CSV: files, folders, globs, URIs, "-" for standard input; an
            Arrow table or stream; pandas or polars; an iterable of texts or dicts
        path : the folder to create
        id_column : default: `id`, `doc_id`, `_id` or the row number; `meta.id` is a field
        text_columns : joined by a space; default: `text` or the only string column; `doc.text` is a
            field of a struct
        store : columns to store in addition to the id; default: all
        analyzer : how text becomes terms; default: `Analyzer()`
        memory : for postings in progress, in bytes or as "256MB"
        threads : default: all cores; the index does not depend on it
        overwrite : replace an existing index
        progress : called as progress(stage, done, total or None) from the calling thread

        Raises DataError for a missing column, no rows, duplicate ids, a damaged file or
        invalid UTF-8; SettingsError for a setting of a wrong type or outside its range, and where
        the path exists already.
        """
        from fastseq.index.build import build

        summary = build(
            corpus, path, id_column=id_column, text_columns=text_columns, store=store,
            analyzer=analyzer, memory=memory, threads=threads, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
        index = Index.open(path)
        index.summary = summary
        return index

    @staticmethod
    def open(path: str | Path) -> Index:
        """Open a committed index. Later commits to the folder do not affect it.

        Raises FormatError where there is no index, or one of another format version, or a damaged
        one (naming the file).
        """
        segment = Segment.open(path)
        return Index(segment.folder.root, segment)

    def __len__(self) -> int:
        """The number of documents."""
        return self._segment.documents

    @property
    def analyzer(self) -> Analyzer:
        """The analyzer of the documents and of queries."""
        return self._segment.analyzer

    def search(
        self, query: Query | Sequence[Query], k: int = 10, model: RankingModel = _DEFAULT,
        threads: int | None = None, expand: Expand | None = None, device: str = "cpu",
    ) -> Hits:  # fmt: skip
        """The k best documents for one query or each of several.

        Parameters
        ----------
        query : a string, analysed as the documents were (a repeated word counts each time); or a
            mapping from terms of the index to weights; or a list of those
        k : hits for each query
        model : `BM25(…)`, `TFIDF(…)` or `BoW(…)`
        threads : for a list of queries; default: all cores
        expand : query expansion: a function from the queries that are strings to a mapping for
            each, from further words to weights (a word of the query has weight 1), such as
            `fastseq.Expander`
        device : "cpu", or "cuda" for many queries at a time on an NVIDIA GPU, which keeps the
            postings for later calls with the same model; the hits are the same

        Raises SettingsError for an argument of another type or outside its range (the weights of
        terms from -1e20 to 1e20); DeviceError for "cuda" without the [cuda] extra, an NVIDIA GPU or
        enough memory on it.
        """
        queries = [query] if isinstance(query, str | Mapping) else query
        if not isinstance(queries, Iterable) or isinstance(queries, bytes):
            raise SettingsError(
                f"a query must be a string, a mapping or a list of those, not {query!r}"
            )
        queries = list(queries)
        if (expand := function("expand", expand)) is not None:
            queries = expanded(queries, expand, self._segment)
        rows, scores = self._searcher.search(queries, k, model, threads, device)
        return Hits(rows, scores, self._segment)

    def unknown_words(self, query: str) -> list[str]:
        """The words of a query, before stemming, that no document contains; never stop words."""
        words = raw_words(self._segment, string("query", query))
        known = self.knows(words)
        return [word for word, found in zip(words, known, strict=True) if found is False]

    def removed_words(self, query: str) -> list[tuple[str, str]]:
        """(word, reason) of each word of a query that the analyzer removes: "stop word", "too
        short" or "too long"."""
        return removed_words(self._segment, string("query", query))

    def knows(self, words: Sequence[str]) -> list[bool | None]:
        """For each word whether a document contains it; None for one that the analyzer removes."""
        return are_known(self._segment, strings("words", words))

    def frequent_terms(self, most: int = 200_000) -> list[str]:
        """The `most` terms of the highest document frequency, the most frequent first."""
        return self._segment.frequent_terms(whole("most", most, 0))

    def info(self) -> dict[str, Any]:
        """The kind, format_version, settings, statistics, files and bytes of `fastseq info`."""
        return self._segment.folder.manifest.describe()
