"""`Index`: build one from a corpus, open it, search it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq import query as values
from fastseq.errors import DataError, SettingsError
from fastseq.index.collection import Collection
from fastseq.search.bm25f import BM25F
from fastseq.search.hits import Asked, Hits
from fastseq.search.names import Fields, field_weights
from fastseq.search.patterns import folded
from fastseq.search.query_words import (
    Expand,
    Query,
    Removed,
    are_known,
    count_removed,
    expanded,
    raw_words,
    removed_words,
)
from fastseq.search.ranking import RankingModel
from fastseq.search.requests import (
    DEFAULT,
    ONE,
    least_depth,
    model_of,
    parsed,
    query_list,
    refuse_impacts,
    with_synonyms,
)
from fastseq.search.resolving import MOST_WORDS
from fastseq.search.searcher import Searcher
from fastseq.search.suggesting import complete, suggest
from fastseq.settings import (
    file_path,
    function,
    one_of,
    string,
    strings,
    thread_count,
    whole,
)
from fastseq.text.splitting import stop_words

if TYPE_CHECKING:
    from fastseq.index.build import Progress
    from fastseq.index.changes import IndexWriter
    from fastseq.search.columns import FacetRequest
    from fastseq.search.explanation import Explanation
    from fastseq.search.feedback import Feedback
    from fastseq.search.synonyms import SynonymMap
    from fastseq.text.analyzer import Analyzer

_LAST_WORD = re.compile(r"\S+\Z")


class Index:
    """An inverted index in a folder.

    `len(index)` is the number of documents, `id in index` whether there is one with this id. A
    pickle of an index refers to its path and commit: unpickling opens the folder, and raises
    FormatError where it has another commit by then, unless this process still has the pickled
    commit open. A copy shares the open files.

    Attributes
    ----------
    path : the folder, as it was given; a later change of the working folder does not matter
    """

    def __init__(self, path: Path, collection: Collection) -> None:
        self.path = path
        self._extra: dict[str, Any] = {}  # of the summary of a build
        self._searcher = Searcher(collection)

    def __repr__(self) -> str:
        counts = [(len(self), "document"), (len(self._collection.leaves), "segment")]
        shown = ", ".join(f"{n:,} {what}{'' if n == 1 else 's'}" for n, what in counts)
        return f"Index({str(self.path)!r}, {shown})"

    @property
    def _collection(self) -> Collection:
        return self._searcher.collection

    @property
    def _place(self) -> Path:
        """The folder: the path as it was given, for messages, unless the working folder is another
        one by now."""
        place = Path(self._collection.path)
        return self.path if self.path.absolute() == place else place

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of documents, terms, postings and tokens, and of segments and deleted
        documents where there are several or any; after `build` also null_texts and seconds."""
        return {**self._collection.summary, **self._extra}

    @staticmethod
    def build(
        corpus: Any, path: str | Path, *, id_column: str | None = None,
        text_columns: str | list[str] | None = None, store: str | list[str] | None = None,
        analyzer: Analyzer | None = None, memory: str | int = "1GB", threads: int | None = None,
        overwrite: bool = False, progress: Progress | None = None, positions: bool = True,
        fields: str | list[str] | None = None, impacts: str | None = None, reorder: bool = False,
        dense: Any = None, dense_column: str | None = None, dense_dtype: str = "float32",
        dense_index: str = "exact",
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
        analyzer : how text becomes terms; default: `Analyzer()`; unicode where it has no tokenizer
        memory : limit of the working memory, in bytes or as "256MB"; at least 56 MB, and more where
            50 bytes a term and 20 a document exceed half of it
        threads : default: all cores; the index does not depend on it
        overwrite : replace an existing index
        progress : called as progress(stage, done, total or None) from the calling thread, with
            numbers of postings in the stage "merge", else of documents
        positions : store where in a document its terms are, for phrases; not with n-grams
        fields : text columns that get postings, lengths and positions of their own, in addition to
            those of the text; without `text_columns` the text is these columns, joined
        impacts : instead of texts, a column of the weights of each document's terms, as
            learned-sparse models write them: a map from strings to numbers, or lists of structs of
            a string and a number. Terms are taken as they are; those of weight 0 are left out, and
            the weights of a repeated one are added. The index is searched by the dot product
            (`Dot`). The column is stored only where `store` names it
        reorder : search documents in an order in which similar ones are close, which is faster;
            results, ids and row numbers are the same. Takes memory of up to 6 bytes for each
            posting, whatever `memory` is, and 4 bytes of disk for each document. Documents that are
            added later are searched in their own order, until they are merged with these
        dense : an encoder, with which each document gets a vector, for `search_dense` and
            `search_hybrid`: a TextEncoder, another object with a method `encode`, or a function
            from a list of strings to float32[n, H]. The index has its path and digest
        dense_column : instead of an encoder, a column of vectors, lists of numbers; a null is a
            document without a vector. It is stored only where `store` names it
        dense_dtype : "float32"; "float16" for half the size on disk; or "int8", float32 with bytes
            beside them (a quarter more on disk), by which the same hits are found faster
        dense_index : "exact"; or "usearch", with the extra of this name: each segment of 100,000
            vectors and more has a graph, by which `search_dense` is approximate. It is built on one
            thread, in memory: 2 bytes a number and 150 a document, whatever `memory` is

        Raises DataError for a missing column, no rows, duplicate ids, a damaged file or
        invalid UTF-8; SettingsError for a setting of a wrong type or outside its range, and where
        the path exists already; MissingExtraError without usearch.
        """
        from fastseq.index.build import build

        summary = build(
            corpus, path, id_column=id_column, text_columns=text_columns, store=store,
            analyzer=analyzer, memory=memory, threads=threads, overwrite=overwrite,
            progress=progress, positions=positions, fields=fields, impacts=impacts, reorder=reorder,
            dense=dense, dense_column=dense_column, dense_dtype=dense_dtype,
            dense_index=dense_index,
        )  # fmt: skip
        own = None if analyzer is None or not callable(analyzer.tokenizer) else analyzer.tokenizer
        index = Index.open(path, own)
        index._extra = {name: summary[name] for name in ("null_texts", "seconds")}
        return index

    @staticmethod
    def open(path: str | Path, tokenizer: Callable[[str], list[str]] | None = None) -> Index:
        """Open a committed index. Later commits to the folder do not affect it.

        tokenizer : the Python function that the index was built with, if it was one: an index has
            only its name, and searching without it is an error

        Raises FormatError where there is no index, or one of another format version, or a damaged
        one (naming the file); SettingsError for a function where the index was not built with one.
        """
        function("tokenizer", tokenizer)
        collection = Collection.open(path, tokenizer=tokenizer)
        return Index(collection.folder.root, collection)

    @staticmethod
    def from_ciff(
        file: str | Path, path: str | Path, *, analyzer: Analyzer | None = None,
        overwrite: bool = False, progress: Progress | None = None,
    ) -> Index:  # fmt: skip
        """Make an index of a file of the Common Index File Format, which `to_ciff` and other search
        engines write, and open it.

        Its terms, term frequencies and lengths of documents are those of the file, and so are the
        ids, as strings. It has no positions and no other stored columns.

        Parameters
        ----------
        file : compressed with gzip or zstd, or not
        path : the folder to create
        analyzer : the analyzer that made the terms, for queries and for added documents, whose text
            is the column `text`; default: queries are terms between spaces
        overwrite : as of `build`
        progress : as of `build`

        Raises DataError for a file that does not exist, is truncated, damaged or of another format,
        without documents or with duplicate ids; SettingsError for a setting of a wrong type, and
        where the path exists already.
        """
        from fastseq.index.ciff import import_ciff

        import_ciff(file_path("file", file), path, analyzer, overwrite, progress)
        own = None if analyzer is None or not callable(analyzer.tokenizer) else analyzer.tokenizer
        return Index.open(path, own)

    def to_ciff(
        self, file: str | Path, *, overwrite: bool = False, progress: Progress | None = None
    ) -> None:
        """Write the terms, postings, lengths and ids of the documents to a file of the Common Index
        File Format, for other search engines; compressed where its name ends in .gz or .zst.

        file : a new one, unless `overwrite`
        progress : as of `build`

        The terms are in the order of their bytes. Ids have the form of results; without an id
        column they are the row numbers. Positions, fields and stored columns are left out.

        Raises DataError for an index without documents, FormatError for a damaged one,
        SettingsError where the file exists or is part of the index, FastseqError where the system
        refuses.
        """
        from fastseq.index.ciff import export_ciff

        export_ciff(self._collection, file_path("file", file), overwrite, progress)

    def __reduce__(self) -> Any:
        return _restored, (self._collection, self._extra)

    def __len__(self) -> int:
        """The number of documents."""
        return self._collection.documents

    def __contains__(self, id: Any) -> bool:
        return bool(self._collection.rows_of([id])[0] >= 0)

    def get(self, id: Any, default: Any = None) -> Any:
        """The stored columns of the document with this id, as a dictionary; `default` without one.

        Where the corpus has no ids, the id is the row number, from 0.

        Raises DataError for an id of another type than the column's, FormatError for a damaged
        file.
        """
        collection = self._collection  # another thread may refresh this index
        row = collection.rows_of([id])
        if row[0] < 0:
            return default
        if not collection.stored_columns:
            return {}
        from fastseq.store.arrays import to_rows

        return to_rows(collection.take(row))[0]

    def unknown_ids(self, ids: Any) -> list[Any]:
        """The distinct ids that no document has, in the given order and as results have them.

        ids : a list, a NumPy or an Arrow array

        Raises DataError for an id of another type than the column's, FormatError for a damaged
        file.
        """
        return self._collection.unknown_ids(ids)

    @property
    def impacts_column(self) -> str | None:
        """The column of impacts that the index was built from; None for an index of texts."""
        impacts = self._collection.impacts
        return None if impacts is None else impacts["column"]

    @property
    def dense(self) -> dict[str, Any] | None:
        """How the vectors of documents were made: `size`, `dtype`, and `column`, or `model` and
        `digest`; `graph` where it has graphs. None for an index without vectors."""
        found = self._collection.dense
        return None if found is None else found.to_dict()

    @property
    def analyzer(self) -> Analyzer:
        """The analyzer of the documents and of queries."""
        return self._collection.analyzer

    def search(
        self, query: Query | Sequence[Query], k: int = 10, model: RankingModel | None = None,
        threads: int | None = None, expand: Expand | None = None, device: str = "cpu",
        filter: Any = None, feedback: Feedback | None = None, *, fields: Fields = None,
        syntax: str = "plain", operator: str = "or", synonyms: SynonymMap | None = None,
        sort: str | Sequence[str] | None = None, group: str | None = None, offset: int = 0,
        after: str | None = None, facets: str | FacetRequest | Sequence[str | FacetRequest] = (),
        facet_values: int | None = 10,
    ) -> Hits:  # fmt: skip
        """The k best documents for one query or each of several.

        Parameters
        ----------
        query : a string, analysed as the documents were (a repeated word counts each time); a
            value of `fastseq.query`, such as `Phrase("black cat")`; a mapping from terms of the
            index to weights; or a list of those
        k : hits for each query
        model : `BM25(…)`, `TFIDF(…)`, `BoW(…)`, `Dirichlet(…)`, `JelinekMercer(…)`, `DPH()`,
            `PL2(…)`, or one of your own, `Ranking(…)`; default: BM25,
            with `fields` BM25F; of an index of impacts always `Dot()`
        threads : for a list of queries, and to read the columns of a filter; default: all cores
        expand : query expansion: a function from the queries that are strings to a mapping for
            each, from further words to weights (a word of the query has weight 1), such as
            `fastseq.Expander`
        device : "cpu", or "cuda" for many queries at a time on an NVIDIA GPU, which keeps the
            postings for later calls with the same model; the hits are the same
        filter : a condition on stored columns, which every hit meets, such as
            "year >= 2000 and lang in ('en', 'de')" (see docs/guide/search.md) or a pyarrow
            expression; or an array of bool by row. It does not change scores. Searched on the CPU
        feedback : `RM3(…)` or `Rocchio(…)`: search twice, and add terms of the best documents of
            the first search to each query (pseudo relevance feedback)
        fields : fields in which words are looked up instead of the text: a name, a list, or a
            mapping from names to weights. BM25F counts a word once, whatever fields have it; the
            scores of other models in each field, times its weight, are added
        syntax : of strings: "plain", or "query": words, "phrases", +must, -mustnot, AND, OR, NOT,
            parentheses, field:word, word^2, pre*, w?ld*, word~1, field:[2000 TO 2010] and /regular
            expressions/, as of Lucene's classic query parser. Malformed text is searched for as
            plain words, with a notice in `hits.notices`
        operator : "or" or "and": how the words of a string are joined
        synonyms : `SynonymMap.load(file)`: groups of words, of which each is searched for as all
        sort : stored columns by which hits are sorted instead of the score, such as "-year,title";
            a minus, or ":desc", is for descending order, `_score` is the score. Nulls come last.
            By a column first, all matches are sorted, whatever the limit of scored patterns
        group : a stored column: of the documents with each value of it the best alone is a hit
        offset : hits to leave out before the first
        after : `hits.cursor()` of the page before: the hits that follow, in a stable order
        facets : stored columns of which the values in all matching documents are counted, in
            `hits.facets`: "lang", bins of numbers or dates as "year:10", "date:month" or
            "price:0,10,100", or of `fastseq.facet_request`
        facet_values : values of each facet, the most frequent first; None for all

        Raises SettingsError for an argument of another type or outside its range (the weights of
        terms from -1e20 to 1e20); DataError for a field, column or filter of unknown columns or of
        other types than theirs; DeviceError for "cuda" without the [cuda] extra, an NVIDIA GPU or
        enough memory on it.
        """
        searcher = self._searcher  # another thread may refresh this index
        is_plain = (
            expand is None and feedback is None and fields is None and synonyms is None
            and sort is None and group is None and after is None and type(device) is str
            and device == "cpu"
        )  # fmt: skip
        if (
            is_plain and isinstance(query, ONE) and threads is None
            and type(offset) is type(facet_values) is type(k) is int
            and offset == 0 < facet_values and k > 0 and type(facets) is tuple and not facets
            and type(syntax) is type(operator) is str and syntax == "plain"
            and operator in ("or", "and")
        ):  # fmt: skip
            hits = self._search_one(searcher, query, k, model, filter, operator)
            if hits is not None:
                return hits
        queries = query_list(query)
        one_of("operator", operator, ("or", "and"))
        weights = field_weights(fields, searcher.collection)
        model = model_of(model, weights, searcher.collection)
        k, offset = whole("k", k, 1, below=1 << 128), whole("offset", offset, 0)
        if facet_values is not None:
            facet_values = whole("facet_values", facet_values, 1)
        for name, given in (("expand", function("expand", expand)), ("feedback", feedback)):
            if given is not None and weights is not None:
                raise SettingsError(f"{name} cannot be combined with fields")
            if given is not None and operator == "and":
                raise SettingsError(f"{name} cannot be combined with operator='and'")
        group = None if group is None else string("group", group)
        notices: list[str] = []
        if one_of("syntax", syntax, ("plain", "query")) == "query":
            queries = [parsed(each, searcher.collection, operator, notices) for each in queries]
        if is_plain and len(queries) == 1 and not offset and not facets:
            thread_count(threads)
            hits = self._search_one(searcher, queries[0], k, model, filter, operator, notices)
            if hits is not None:
                return hits
        if synonyms is not None:
            queries = [
                with_synonyms(each, synonyms, searcher.collection, operator) for each in queries
            ]
        if expand is not None:
            if syntax == "query" and any(isinstance(each, values.Query) for each in queries):
                notices.append("only queries of plain words are expanded")
            queries = expanded(queries, expand, searcher)
        if feedback is not None:
            from fastseq.search.feedback import with_feedback

            refuse_impacts(searcher.collection, "feedback")
            queries = with_feedback(
                queries, feedback, searcher, model, threads=threads, device=device, filter=filter
            )
        keys: tuple[Any, ...] = ()
        most: int | None = MOST_WORDS
        if sort is not None:
            from fastseq.search.columns import SCORE, parse_sort

            keys = parse_sort(sort)
            if keys and keys[0].column != SCORE:
                most = None  # by a column, all matching documents are sorted
        search = partial(
            searcher.find, model=model, threads=threads, device=device, filter=filter,
            fields=weights, operator=operator, most=most,
        )  # fmt: skip
        requests: Sequence[FacetRequest] = []
        if facets:
            from fastseq.search.columns import facet_counts, facet_requests

            requests = facet_requests(facets)
        request = None
        if len(queries) == 1:
            request = queries[0], model, filter, weights, operator, keys, group
        if keys or group is not None or after is not None:
            from fastseq.search.paging import decode_cursor, page_of, request_digest

            if request is None:
                raise SettingsError("sort, group and after are for one query at a time")
            match = searcher.matched(queries[0], model, filter, weights, operator, most)
            rows, scores, more = search(queries, max(int(np.count_nonzero(match)), 1))
            found = int((rows[0] >= 0).sum())
            rows, scores = rows[:, :found], scores[:, :found]
            cursor = None
            if after is not None:
                cursor = decode_cursor(searcher.collection, request_digest(*request), after)
            places = page_of(
                searcher.collection, rows[0], scores[0], k, keys, group, offset, cursor
            )
            rows, scores = rows[:, places], scores[:, places]
        else:
            k = least_depth(k + offset, len(queries), searcher.collection)
            rows, scores, more = search(queries, k)
            if offset:
                rows, scores = rows[:, offset:], scores[:, offset:]
        counted = []
        for each in queries if requests else ():
            match = searcher.matched(each, model, filter, weights, operator)
            counted.append({
                one.column: facet_counts(searcher.collection, one, match, facet_values)
                for one in requests
            })  # fmt: skip
        notices = list(dict.fromkeys([*notices, *more]))
        return Hits(
            rows, scores, searcher.collection, tuple(notices), tuple(counted),
            Asked(
                tuple(queries), request,
                {"model": model, "fields": weights, "operator": operator, "most": most},
            ),
        )  # fmt: skip

    def _search_one(
        self, searcher: Searcher, query: Query, k: int, model: RankingModel | None, filter: Any,
        operator: str, notices: Sequence[str] = (),
    ) -> Hits | None:  # fmt: skip
        """The hits of one query without other options; None where `search` must prepare it."""
        model = model_of(model, None, searcher.collection)
        new = [*notices]
        found = searcher.find_one(query, k, model, filter, operator, new)
        if found is None:
            return None
        return Hits(
            *found, searcher.collection, tuple(dict.fromkeys(new)), (),
            Asked(
                (query,), (query, model, filter, None, operator, (), None),
                {"model": model, "fields": None, "operator": operator},
            ),
        )  # fmt: skip

    def search_dense(
        self, queries: Any, k: int = 10, *, encoder: Any = None, filter: Any = None,
        threads: int | None = None, exact: bool = False,
    ) -> Hits:  # fmt: skip
        """The k documents whose vectors have the largest cosine with that of a query; scores are
        the cosines. All documents are compared, but where the index has graphs (`dense_index` of
        `build`): the next best may then replace some of the k. A document without a vector
        (of an empty text) is no hit, and a query without one has none.

        Parameters
        ----------
        queries : a string or several, or vectors, float32[Q, H]
        encoder : of strings: the model that the index was built with
        filter : as of `search`
        threads : default: all cores; the hits do not depend on it
        exact : compare all documents, whatever graphs the index has

        Raises SettingsError for an index without vectors, another model than the index's, strings
        without an encoder and vectors of another size; MissingExtraError for one with graphs
        without usearch, unless `exact`; others as `search`.
        """
        from fastseq.search.dense import dense_hits

        return dense_hits(self._searcher, queries, k, encoder, filter, threads, exact)

    def search_hybrid(
        self, query: str | Sequence[str], k: int = 10, *, encoder: Any = None,
        vectors: Any = None, fusion: str = "rrf", weight: float = 0.5, depth: int = 100,
        filter: Any = None, threads: int | None = None, exact: bool = False, **lexical: Any,
    ) -> Hits:  # fmt: skip
        """The k best documents of the fusion of `search` and `search_dense`.

        Parameters
        ----------
        query : strings, one or several
        encoder : as of `search_dense`
        vectors : of the queries, float32[Q, H], instead of an encoder
        fusion : "rrf": reciprocal rank fusion, the sum of 1 / (60 + rank) in both rankings; "sum":
            the sum of the scores, brought to 0 to 1 by the least and the largest in each ranking;
            what a ranking does not have counts 0
        weight : from 0 to 1, of the ranking by vectors; that of words has the rest. For rrf both
            are doubled
        depth : documents of each ranking; at least k
        exact : as of `search_dense`
        lexical : other options of `search`: model, expand, feedback, fields, syntax, operator,
            synonyms

        Raises as `search_dense` and `search`.
        """
        from fastseq.search.dense import check_hybrid, fused_hits

        texts, depth = check_hybrid(query, k, vectors, fusion, weight, depth, lexical, len(self))
        shared: dict[str, Any] = {"k": depth, "filter": filter, "threads": threads}
        own = texts if vectors is None else vectors
        near = self.search_dense(own, encoder=encoder, exact=exact, **shared)
        words = self.search(texts, **shared, **lexical)
        return fused_hits(near, words, texts, k, fusion, weight)

    def count(
        self, query: Query | Sequence[Query], *, filter: Any = None, fields: Fields = None,
        syntax: str = "plain", operator: str = "or", synonyms: SynonymMap | None = None,
        notices: list[str] | None = None,
    ) -> Any:  # fmt: skip
        """The number of documents that match a query, all of them; of several queries a list.

        notices : gets what `hits.notices` of a search would have

        Other parameters and errors are those of `search`.
        """
        notices = [] if notices is None else notices
        single = isinstance(query, ONE)
        searcher = self._searcher
        if (
            single and fields is None and synonyms is None and type(syntax) is str
            and type(operator) is str and syntax == "plain" and operator in ("or", "and")
        ):  # fmt: skip
            return searcher.count([query], DEFAULT, filter, None, operator, notices)[0]  # type: ignore[list-item]
        queries = query_list(query)
        weights = field_weights(fields, searcher.collection)
        one_of("operator", operator, ("or", "and"))
        if one_of("syntax", syntax, ("plain", "query")) == "query":
            queries = [parsed(each, searcher.collection, operator, notices) for each in queries]
        if synonyms is not None:
            queries = [
                with_synonyms(each, synonyms, searcher.collection, operator) for each in queries
            ]
        model = DEFAULT if weights is None else BM25F()
        counts = searcher.count(queries, model, filter, weights, operator, notices)
        return counts[0] if single else counts

    def explain(
        self, query: Query, id: Any, *, model: RankingModel | None = None, fields: Fields = None,
        syntax: str = "plain", operator: str = "or",
    ) -> Explanation:  # fmt: skip
        """The score of a document as a tree of numbers that add up to it, bit by bit.

        id : of the document; the row number where the corpus has no ids

        Other parameters and errors are those of `search`. DataError where no document has the id.
        """
        from fastseq.search.explaining import explain

        searcher = self._searcher
        weights = field_weights(fields, searcher.collection)
        one_of("operator", operator, ("or", "and"))
        if one_of("syntax", syntax, ("plain", "query")) == "query":
            query = parsed(query, searcher.collection, operator, [])
        if not isinstance(query, str | values.Query):
            raise SettingsError(
                f"explain is for one string or value of fastseq.query, not for {query!r:.80}"
            )
        value = values.Term(query) if isinstance(query, str) else query
        row = int(searcher.collection.rows_of([id])[0])
        if row < 0:
            raise DataError(f"no document has the id {id!r}")
        model = model_of(model, weights, searcher.collection)
        return explain(searcher, value, row, model, weights, operator)

    def more_like(
        self, id: Any = None, *, text: str | None = None, k: int = 10, terms: int = 25,
        min_df: int = 2, model: RankingModel | None = None, threads: int | None = None,
        filter: Any = None,
    ) -> Hits:  # fmt: skip
        """The k documents that are most like a document, which is not among them, or like a text.

        The query is the terms with the largest tf · idf of the document or text, weighted by it
        (idf that of BM25).

        Parameters
        ----------
        id : of the document; the row number where the corpus has no ids
        text : analysed as the documents were, instead of a document
        k, model, threads, filter : as of `search`
        terms : terms of the query
        min_df : documents that must contain a term of the query

        Raises SettingsError unless either an id or a text is given, and as `search`; DataError
        where no document has the id, and for one of another type than the column's.
        """
        from fastseq.search.feedback import like_query, terms_of_document, terms_of_text

        if (id is None) == (text is None):
            raise SettingsError("more_like needs either the id of a document or text=")
        k, terms = whole("k", k, 1), whole("terms", terms, 1)
        min_df = whole("min_df", min_df, 1)
        searcher = self._searcher  # another thread may refresh this index
        collection = searcher.collection
        model = model_of(model, None, collection)
        refuse_impacts(collection, "more_like")
        k = least_depth(k, 1, collection)
        if text is not None:
            counts = terms_of_text(collection, string("text", text))
            query = like_query(collection, counts, terms, min_df)
            rows, scores = searcher.search([query], k, model, threads, filter=filter)
            return Hits(rows, scores, collection)
        row = int(collection.rows_of([id])[0])
        if row < 0:
            raise DataError(f"no document has the id {id!r}")
        query = like_query(collection, terms_of_document(collection, row), terms, min_df)
        rows, scores = searcher.search([query], k + 1, model, threads, filter=filter)
        others = np.flatnonzero(rows[0] != row)[:k]
        return Hits(rows[:, others], scores[:, others], collection)

    # ---- changes

    def add(
        self, corpus: Any, *, memory: str | int = "1GB", threads: int | None = None,
        wait: float = 0, progress: Progress | None = None, dense: Any = None,
    ) -> dict[str, int]:  # fmt: skip
        """Add documents in one commit, which this index then has; one with a known id replaces the
        document with that id.

        Parameters
        ----------
        corpus : as of `build`, with the index's columns; where it lacks a stored column, that is
            null
        wait : seconds to wait for another writer to end
        dense : the encoder that the index was built with, if it was

        Returns the numbers of documents `added`, of those among them that `replaced` one, of
        `null_texts`, and of segments `merged`. Other parameters are those of `build`.

        Raises as `writer`; DataError as `build`, for an index without ids, for a column of another
        type or one that the index does not have.
        """
        with self.writer(
            memory=memory, threads=threads, wait=wait, progress=progress, dense=dense
        ) as writer:
            writer.add(corpus)
        return _some(writer.summary, "added", "replaced", "null_texts", "merged")

    def delete(
        self, ids: Any = None, *, where: Any = None, memory: str | int = "1GB",
        threads: int | None = None, wait: float = 0, progress: Progress | None = None,
    ) -> dict[str, int]:  # fmt: skip
        """Delete documents in one commit, which this index then has; segments are merged where that
        is due.

        ids : one id or several, as a list, a NumPy or an Arrow array; None where `where` is given
        where : a filter, as of `search` but no array: all documents that meet it are deleted

        Returns the numbers of documents `deleted`, of `unknown` ids, and of segments `merged`.
        Other parameters are those of `add`. Raises as `writer`; DataError for an id of another
        type, and for an index without ids.
        """
        with self.writer(memory=memory, threads=threads, wait=wait, progress=progress) as writer:
            writer.delete(ids, where=where)
        return _some(writer.summary, "deleted", "unknown", "merged")

    def compact(
        self, *, memory: str | int = "1GB", threads: int | None = None, wait: float = 0,
        progress: Progress | None = None, reorder: bool = False,
    ) -> None:  # fmt: skip
        """Merge all segments into one, without the deleted documents. Results do not change. Raises
        as `writer`.

        reorder : as of `build`; also where a segment is reordered already
        """
        with self.writer(memory=memory, threads=threads, wait=wait, progress=progress) as writer:
            writer.compact(reorder)

    @contextmanager
    def writer(
        self, *, memory: str | int = "1GB", threads: int | None = None, wait: float = 0,
        progress: Progress | None = None, dense: Any = None,
    ) -> Iterator[IndexWriter]:  # fmt: skip
        """Many changes in one commit:

            with index.writer() as writer:
                writer.add([{"id": 7, "text": "a new document"}])
                writer.delete([3, 5])

        The end of the block commits, and this index then has the commit; an exception discards all
        changes. Other readers keep the commit that they opened, until they `refresh`. After any
        changes, searches give the hits and scores of a new index of the documents, in order of
        their last addition.

        Raises FormatError where the index is gone or damaged; FastseqError where another process
        writes to it, after `wait` seconds, or the system refuses.
        """
        from fastseq.index.changes import IndexWriter

        place = self._place
        opened = self._collection
        with IndexWriter(place, memory, threads, wait, progress, opened, dense) as writer:
            yield writer
        self.refresh()

    def refresh(self) -> bool:
        """Move to the current commit of the folder; returns whether it is another one. Segments
        that both have stay open. Raises as `open`; the index then keeps its commit."""
        before = self._collection
        collection = Collection.open(self._place, before)
        if collection.commit == before.commit:
            return False
        self._searcher = Searcher(collection)
        self._extra = {}
        return True

    # ---- words

    def unknown_words(self, query: str) -> list[str]:
        """The words of a query, before stemming, that no document contains; never stop words."""
        words = raw_words(self._collection, string("query", query))
        known = self.knows(words)
        return [word for word, found in zip(words, known, strict=True) if found is False]

    def removed_words(self, query: str) -> list[tuple[str, str]]:
        """(word, reason) of each word of a query that the analyzer removes: "stop word", "too
        short" or "too long"."""
        return removed_words(self._collection, string("query", query))

    def count_removed_words(self, queries: Sequence[str]) -> Removed:
        """Of the words of queries that the analyzer removes the number by reason, `words`, and the
        numbers of the queries without any other word, `empty`."""
        return count_removed(self._collection, strings("queries", queries))

    def knows(self, words: Sequence[str]) -> list[bool | None]:
        """For each word whether a document contains it; None for one that the analyzer removes."""
        return are_known(self._searcher, strings("words", words))

    def suggest(self, word: str, most: int = 3) -> list[str]:
        """At most `most` words of the index with a similar spelling, the fewest edits first, then
        the most frequent; none for stop words and words of one or two letters."""
        searcher = self._searcher
        words, df = searcher.words
        folded_word = folded(string("word", word), searcher.analyzer.splitter)
        collection = searcher.collection
        deleted = any(leaf.live is not None for leaf in collection.leaves)
        return suggest(
            folded_word, words, df, stop_words(collection.analyzer), most,
            searcher.has_word if deleted else None,
        )  # fmt: skip

    def complete(self, text: str, most: int = 10) -> list[tuple[str, int]]:
        """(word, documents) of the `most` most frequent words that begin with the last word of a
        text; none after white space, where no word has begun."""
        searcher = self._searcher
        most = whole("most", most, 1)
        last = _LAST_WORD.search(string("text", text))
        beginning = "" if last is None else folded(last[0], searcher.analyzer.splitter)
        return complete(beginning, *searcher.words, most) if beginning else []

    def frequent_terms(self, most: int = 200_000) -> list[str]:
        """The `most` terms of the highest document frequency, the most frequent first."""
        return self._collection.frequent_terms(whole("most", most, 0))

    def info(self) -> dict[str, Any]:
        """The kind, format_version, settings, statistics, files and bytes of `fastseq info`."""
        return self._collection.folder.manifest.describe()


def _some(numbers: Mapping[str, int], *names: str) -> dict[str, int]:
    return {name: numbers[name] for name in names}


def _restored(collection: Collection, extra: dict[str, Any]) -> Index:
    """The index of a pickle or a copy."""
    index = Index(collection.folder.root, collection)
    index._extra = extra
    return index
