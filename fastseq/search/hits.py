"""`Hits`: the results of a search."""

from __future__ import annotations

import html
import operator
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from sys import getsizeof
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, overload

import numpy as np

from fastseq import query as values
from fastseq.errors import DataError, MissingExtraError, SettingsError
from fastseq.index.collection import Collection
from fastseq.search.display import SNIPPET_LENGTH, html_table, text_table
from fastseq.search.names import searchable, text_columns, text_name
from fastseq.settings import real, strings, whole
from fastseq.types import Float32, Float64, Int32, Int64, Texts, offsets_of

if TYPE_CHECKING:
    import pyarrow as pa

    from fastseq.search.columns import Facet
    from fastseq.search.explanation import Explanation
    from fastseq.search.snippets import Snippet

SHOWN_QUERIES = 5  # of printed hits
SHOWN_HITS = 10  # of each of these queries
_ROW_BYTES = 512  # of a cached row without its values, about
_FIRST = ("rank", "score", "id")  # columns of displayed hits


class Asked(NamedTuple):
    """What hits are the answer to.

    queries  strings, mappings and values of fastseq.query
    request  the parts of the request of a single one, or their digest (see paging.py); None for
             several
    options  the model, weights of fields and operator of the search, and the most terms of
             patterns; empty where the score is not that of words
    """

    queries: tuple[Any, ...]
    request: tuple[Any, ...] | int | None
    options: Mapping[str, Any]

    def digest(self) -> int | None:
        """That of the request."""
        from fastseq.search.paging import request_digest

        return request_digest(*self.request) if isinstance(self.request, tuple) else self.request


class _Part(NamedTuple):
    """What is shown of the hits of one query."""

    title: str
    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: str


@dataclass(frozen=True, eq=False, repr=False)
class Hits:
    """The k best documents of each of Q queries; a sequence of the queries' results.

    `print(hits)`, or a notebook, shows the best hits of the first queries as a table. Hits have the
    Arrow stream interface: `pyarrow.table(hits)`, `polars.DataFrame(hits)` and DuckDB read the
    columns of `to_table()`. A pickle of hits has the rows and scores, and refers to the index by
    its path and commit; ids and stored columns are read from there on access.

    rows     int32[Q, k]    document rows, -1 past the last hit
    scores   float32[Q, k]  descending, ties by row; 0 past the last hit
    notices  what was not searched for as asked, such as malformed text, in sentences
    facets   of each query, where facets were asked for, by column the counts of its values
    """

    rows: Int32
    scores: Float32
    _collection: Collection
    notices: tuple[str, ...] = ()
    facets: tuple[dict[str, Facet], ...] = ()
    _asked: Asked | None = None

    def __repr__(self) -> str:
        hits = _plural(int(self.counts.sum()), "hit")
        return f"Hits({_plural(len(self), 'query', 'queries')}, {hits})"

    def __reduce__(self) -> Any:
        asked = None if self._asked is None else self._asked._replace(request=self._asked.digest())
        return Hits, (self.rows, self.scores, self._collection, self.notices, self.facets, asked)

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.rows)

    @overload
    def __getitem__(self, q: SupportsIndex) -> list[dict[str, Any]]: ...
    @overload
    def __getitem__(self, q: slice) -> Hits: ...
    def __getitem__(self, q: SupportsIndex | slice) -> list[dict[str, Any]] | Hits:
        """The results of query q, as `to_dicts` returns them; for a slice, those queries' Hits."""
        if isinstance(q, slice):
            asked = self._asked
            if asked is not None:
                asked = asked._replace(queries=asked.queries[q], request=None)
            return Hits(
                self.rows[q], self.scores[q], self._collection, self.notices, self.facets[q], asked
            )
        if not -len(self) <= operator.index(q) < len(self):
            raise IndexError(f"hits of {len(self)} queries have no number {q!r}")
        return self.to_dicts(operator.index(q))

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """The results of each query, as `to_dicts` returns them."""
        return map(self.to_dicts, range(len(self)))

    @property
    def id_column(self) -> str | None:
        """The name of the id column; None where the row number is the id."""
        return self._collection.id_column

    @cached_property
    def counts(self) -> Int32:
        """int32[Q]: the number of hits of each query, at most k."""
        counts: Int32 = (self.rows >= 0).sum(axis=1, dtype=np.int32)
        return counts

    def cursor(self) -> str | None:
        """What `Index.search(after=)` takes for the page after the last of these hits; None where
        there are none.

        Raises SettingsError for the hits of several queries, of a slice, and of `more_like`.
        """
        from fastseq.search.paging import encode_cursor

        request = None if self._asked is None else self._asked.digest()
        if request is None:
            raise SettingsError("a cursor is of the hits of a search for one query")
        last = int(self.counts[0]) - 1
        if last < 0:
            return None
        row, score = int(self.rows[0, last]), float(self.scores[0, last])
        return encode_cursor(self._collection, request, row, score)

    def explain(self, rank: int = 1, q: int = 0) -> Explanation:
        """The score of a hit, by its rank from 1, as a tree of numbers that add up to it.

        Raises SettingsError where the query is a mapping of terms to weights.
        """
        from fastseq.search.explaining import explain
        from fastseq.search.searcher import Searcher

        q = whole("q", q, -len(self), len(self))
        rank = whole("rank", rank, 1, int(self.counts[q]) + 1)
        query = self._query(q)
        if isinstance(query, Mapping):
            raise SettingsError("explain is for a string or a query value, not for a mapping")
        value = values.Term(query) if isinstance(query, str) else query
        row = int(self.rows[q, rank - 1])
        assert self._asked is not None
        if not self._asked.options:
            raise SettingsError("explain is for the hits of a search of words alone")
        return explain(Searcher(self._collection), value, row, **self._asked.options)

    def query_texts(self, q: int = 0) -> list[str]:
        """The texts of the words and phrases of query q."""
        query = self._query(whole("q", q, -len(self), len(self)))
        if isinstance(query, str):
            return [query]
        if isinstance(query, Mapping):
            return list(query)
        fields = {None, *searchable(self._collection)}
        return [
            part.text for part in values.walk(query)
            if isinstance(part, values.Term | values.Phrase) and part.field in fields
        ]  # fmt: skip

    def _query(self, q: int) -> Any:
        if self._asked is None:
            raise SettingsError("these hits have no query")
        return self._asked.queries[q]

    def snippets(
        self, q: int = 0, column: str | None = None, length: int = SNIPPET_LENGTH
    ) -> list[Snippet]:
        """Of each hit of query q the passage of its stored text that matches best, with highlights.

        column : a stored column of text; default: the text column with the best passage
        length : code points, at most

        Raises SettingsError for a length below 1; DataError for a column that is not stored or has
        no text, FormatError for a damaged file.
        """
        from fastseq.search.highlighting import Matcher
        from fastseq.search.snippets import document_snippets

        q = whole("q", q, -len(self), len(self))
        collection = self._collection

        def df(terms: Texts) -> Int64:
            counts = np.zeros(len(terms), np.int64)
            for leaf in collection.leaves:
                counts += leaf.counts_of(leaf.segment.lookup(terms))
            return counts

        matcher = Matcher(
            self._query(q), collection.analyzer, collection.documents, df, collection.fields,
            text_name(collection),
        )  # fmt: skip
        rows = self.rows[q, : self.counts[q]]
        return document_snippets(collection, rows, matcher, column, length)

    def rerank(
        self, score: Callable[[str, list[str]], Sequence[float] | Float32], k: int | None = None,
        weight: float = 1.0,
    ) -> Hits:  # fmt: skip
        """The hits in the order of another score, such as `BertReranker.score_texts`.

        score : called with the text of each query and the stored texts of its hits; returns a
            number for each, larger for better ones. Ties keep their order
        k : hits of each query; None for as many as there are
        weight : from 0 to 1, of the new scores; below 1 both scores are brought to 0 to 1 by the
            least and the largest of a query's hits, and added, the old with 1 - weight

        Raises SettingsError for a k below 1 and a weight that is not from 0 to 1; DataError where
        the text is not stored, FormatError for a damaged file.
        """
        real("weight", weight, lambda w: 0 <= w <= 1, "a number from 0 to 1")
        names, collection = text_columns(self._collection), self._collection
        if not names or not set(names) <= set(collection.stored_columns):
            raise DataError(f"{collection.path}: no stored text to rank: store it in the index")
        size = self.rows.shape[1] if k is None else min(whole("k", k, 1), self.rows.shape[1])
        rows = np.full((len(self), size), -1, np.int32)
        scores = np.zeros((len(self), size), np.float32)
        for q, count in enumerate(self.counts.tolist()):
            if not count:
                continue
            texts = [_text_of(fields[name] for name in names) for fields in self.fields(q, names)]
            found = np.asarray(score(" ".join(self.query_texts(q)), texts), np.float32)
            if found.shape != (count,) or not np.isfinite(found).all():
                raise DataError(
                    f"query {q} (from 0): the scores of {count} texts are of shape "
                    f"{list(found.shape)}, or not finite; expected a number for each"
                )
            if weight < 1:
                new, old = (scaled(x.astype(np.float64)) for x in (found, self.scores[q, :count]))
                found = (weight * new + (1 - weight) * old).astype(np.float32)
            order = np.argsort(-found, kind="stable")[:size]
            rows[q, : len(order)], scores[q, : len(order)] = self.rows[q, order], found[order]
        asked = None if self._asked is None else self._asked._replace(request=None, options={})
        return replace(self, rows=rows, scores=scores, _asked=asked)

    @cached_property
    def ids(self) -> list[list[Any]]:
        """The ids of each query's hits, best first; row numbers where the corpus has no ids."""
        flat = self._flat_ids()
        return [flat[a:b] for a, b in pairwise(offsets_of(self.counts).tolist())]

    def fields(self, q: int = 0, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The stored columns of the hits of query q, best first; only their rows are read.

        Raises DataError for a column that is not stored, FormatError for a damaged file.
        """
        q = whole("q", q, -len(self), len(self))
        wanted = None if columns is None else strings("columns", columns)
        rows = self.rows[q, : self.counts[q]]
        return _rows(self._stored(rows, wanted), len(rows))

    def to_dicts(self, q: int = 0) -> list[dict[str, Any]]:
        """The hits of query q as {rank, id, score, fields}."""
        return self._dicts(whole("q", q, -len(self), len(self)))

    def to_table(
        self, query_ids: Sequence[Any] | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """All hits as an Arrow table: query_id, doc_id, rank (from 1), score, and stored columns.

        query_ids : one for each query; default: its number
        columns : stored columns to add

        Raises SettingsError for another number of query_ids, or ids of several types; DataError for
        a column that is not stored, FormatError for a damaged file.
        """
        from fastseq.store.ids import id_array
        from fastseq.store.runs import run_table

        ids = np.arange(len(self)) if query_ids is None else query_ids
        if not isinstance(ids, Iterable) or isinstance(ids, str | bytes | Mapping):
            raise SettingsError(f"query_ids must be a list of strings or integers, not {ids!r}")
        ids = ids if query_ids is None else list(ids)
        if len(ids) != len(self):
            raise SettingsError(f"{len(ids)} query_ids for {len(self)} queries")
        try:
            ids = id_array(ids)
        except (TypeError, ValueError, OverflowError, NotImplementedError):  # as Arrow's errors are
            raise SettingsError(
                f"query_ids must be all strings or all integers, not {ids!r}"
            ) from None
        columns = [] if columns is None else strings("columns", columns)
        hits = self.rows >= 0
        rows = self.rows[hits]
        column = self.id_column
        stored = self._stored(rows, columns if column is None else [*columns, column])
        doc_ids = rows if column is None or stored is None else stored.column(column)
        table = run_table(ids, offsets_of(self.counts), doc_ids, self.scores[hits])
        if stored is not None:
            for name in columns:
                table = table.append_column(name, stored.column(name))
        return table

    def to_pandas(
        self, query_ids: Sequence[Any] | None = None, columns: Sequence[str] | None = None
    ) -> Any:
        """`to_table` as a pandas DataFrame. Raises MissingExtraError without pandas."""
        _imported("pandas")
        return self.to_table(query_ids, columns).to_pandas()

    def to_polars(
        self, query_ids: Sequence[Any] | None = None, columns: Sequence[str] | None = None
    ) -> Any:
        """`to_table` as a polars DataFrame. Raises MissingExtraError without polars."""
        polars = _imported("polars")
        return polars.DataFrame(self.to_table(query_ids, columns))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The columns of `to_table()` as an Arrow stream in a PyCapsule, cast to the requested
        schema, which has the same columns."""
        return self.to_table().__arrow_c_stream__(requested_schema)

    def __str__(self) -> str:
        return self._text(shutil.get_terminal_size().columns)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        yield Text(self._text(options.max_width), no_wrap=True)

    def _text(self, width: int) -> str:
        """The tables of `print(hits)`, for a terminal of this width."""
        parts = []
        for part in self._shown():
            lines = [part.title] if part.title else []
            if part.rows:
                table, missing = text_table(part.columns, part.rows, width)
                lines += table
                if missing:
                    lines.append(textwrap.fill(f"not shown: {', '.join(missing)}", width))
            parts.append("\n".join([*lines, *([part.more] if part.more else [])]))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        """The tables of `print(hits)` for a notebook; a cell that is cut has its text as title."""
        parts = []
        for part in self._shown():
            if part.rows:
                parts.append(html_table(part.columns, part.rows, part.title))
            elif part.title:
                parts.append(f"<p>{html.escape(part.title)}</p>")
            if part.more:
                parts.append(f"<p>{html.escape(part.more)}</p>")
        return "<div>\n" + "\n".join(parts) + "\n</div>"

    def _shown(self) -> Iterator[_Part]:
        """What `print` and a notebook show."""
        for q in range(min(len(self), SHOWN_QUERIES)):
            count = int(self.counts[q])
            columns, rows = result_rows(self, q, SHOWN_HITS)
            title = "" if len(self) == 1 and count else _plural(count, "hit")
            if len(self) > 1:
                title = f"query {q}: {title}"
            more = "" if count <= len(rows) else f"… {_plural(count - len(rows), 'more hit')}"
            yield _Part(title, columns, rows, more)
        more_queries = len(self) - SHOWN_QUERIES
        if more_queries > 0:
            more = f"… {_plural(more_queries, 'more query', 'more queries')}"
            yield _Part("", [], [], more)
        if len(self) == 0:
            yield _Part("no queries", [], [], "")

    def _dicts(self, q: int) -> list[dict[str, Any]]:
        """`to_dicts`."""
        rows = self.rows[q, : self.counts[q]]
        scores = self.scores[q, : len(rows)].tolist()
        found = zip(scores, self._found(rows), strict=True)
        return [
            {"rank": rank, "id": id, "score": score, "fields": dict(fields)}
            for rank, (score, (id, fields)) in enumerate(found, 1)
        ]

    def _found(self, rows: Int32) -> list[tuple[Any, dict[str, Any]]]:
        """Of each of some documents its id and its stored columns, from the cache or into it."""
        collection = self._collection
        numbers = rows.tolist()
        keys = [("row", collection.number, row) for row in numbers]
        found = collection.recent.get(keys)
        missing = [at for at, row in enumerate(found) if row is None]
        if not missing:
            return found
        stored = self._stored(rows[missing])
        fields = _rows(stored, len(missing))
        column = self.id_column
        ids = rows[missing].tolist() if column is None or stored is None else _ids(stored, column)
        # a value of a nested type may be changed by the caller
        is_kept = stored is not None and not any(kind.num_fields for kind in stored.schema.types)
        for at, id, row in zip(missing, ids, fields, strict=True):
            found[at] = id, row
            if is_kept:
                nbytes = _ROW_BYTES + sum(map(getsizeof, row.values()))
                collection.recent.put(keys[at], found[at], nbytes)
        return found

    def _stored(self, rows: Int32, columns: list[str] | None = None) -> pa.Table | None:
        """Stored columns, by default all, of some documents; None for no columns."""
        stored = self._collection.stored_columns
        if not stored and columns:
            raise DataError(f"no stored column {columns[0]!r}; stored are: none")
        if not stored or columns == []:
            return None
        wanted = None if columns is None else list(dict.fromkeys(columns))
        return self._collection.take(rows.astype(np.int64), wanted)

    def _flat_ids(self) -> list[Any]:
        rows = self.rows[self.rows >= 0]
        column = self.id_column
        stored = None if column is None else self._stored(rows, [column])
        numbers: list[Any] = rows.tolist()
        return numbers if column is None or stored is None else _ids(stored, column)


def _text_of(values: Iterable[Any]) -> str:
    """Stored strings and lists of strings, joined by spaces."""
    parts = ([value] if isinstance(value, str) else value or [] for value in values)
    return " ".join(str(text) for part in parts for text in part if text is not None)


def _rows(stored: pa.Table | None, count: int) -> list[dict[str, Any]]:
    """The rows of stored columns as dictionaries."""
    from fastseq.store.arrays import to_rows

    return [{} for _ in range(count)] if stored is None else to_rows(stored)


def _ids(stored: pa.Table, column: str) -> list[Any]:
    """The ids in the stored columns, as results have them."""
    from fastseq.store.ids import id_list

    return id_list(stored.column(column))


def result_dicts(hits: Hits, q: int = 0) -> list[dict[str, Any]]:
    """`hits.to_dicts(q)` with the stored values as results contain them."""
    columns, rows = result_rows(hits, q, with_id=True)
    names = columns[len(_FIRST) :]
    return [
        {"rank": rank, "id": id, "score": score, "fields": dict(zip(names, stored, strict=True))}
        for rank, score, id, *stored in rows
    ]


def result_rows(
    hits: Hits, q: int = 0, most: int | None = None, with_id: bool = False
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The best `most` hits of query q as results contain them: the names of the columns, which are
    rank, score, id and the stored columns, and a row for each hit. The id's own column is left out
    unless `with_id`."""
    from fastseq.store import ids

    rows = hits.rows[q, : hits.counts[q]][:most]
    stored = hits._stored(rows)
    names = [] if stored is None else stored.schema.names
    found = [{}] * len(rows) if stored is None else ids.result_rows(stored)
    column = hits.id_column
    own = rows.tolist() if column is None else [row[column] for row in found]
    fields = [name for name in names if with_id or name != column]
    scores = hits.scores[q, : len(rows)].tolist()
    return [*_FIRST, *fields], [
        (rank, score, id, *(row[name] for name in fields))
        for rank, (score, id, row) in enumerate(zip(scores, own, found, strict=True), 1)
    ]


def scaled(scores: Float64) -> Float64:
    """Scores brought to 0 to 1 by the least and the largest; 1 where all are equal."""
    low, high = scores.min(initial=np.inf), scores.max(initial=-np.inf)
    return np.ones(len(scores)) if high <= low else (scores - low) / (high - low)


def _plural(count: int, one: str, several: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def _imported(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError:
        raise MissingExtraError(
            f"to_{package}() needs the package {package}: pip install {package}"
        ) from None
