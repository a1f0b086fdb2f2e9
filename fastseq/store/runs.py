"""Ranked lists and judgements in files: Parquet, TREC and tab-separated.

A run has four columns, query_id, doc_id, rank (int32, from 1) and score (float32), sorted by query
and rank. TREC's form of it is `query_id Q0 doc_id rank score tag` on each line, and of judgements
(qrels) `query_id 0 doc_id rel`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fastseq.errors import DataError, SettingsError
from fastseq.store.arrays import id_array, int64_array, is_string, string_scalar, to_texts
from fastseq.store.atomic import written_whole
from fastseq.store.queries import QUERY_ID_NAMES, id_list
from fastseq.store.tables import read_columns, read_lines
from fastseq.types import Float32, Int64

RUN_SUFFIXES = (".parquet", ".trec", ".tsv")
DOC_ID_NAMES = ("doc_id", "docid", "docno")
REL_NAMES = ("rel", "relevance", "score")
_LINES = 1 << 18  # formatted at a time

Ids: TypeAlias = Iterable[str] | Iterable[int] | pa.Array | pa.ChunkedArray


def run_table(query_ids: Ids, offsets: npt.ArrayLike, doc_ids: Ids, scores: Float32) -> pa.Table:
    """A run as a table.

    Parameters
    ----------
    query_ids : Q strings or integers
    offsets : int64[Q + 1]; the hits of query q are offsets[q] to offsets[q + 1], best first
    doc_ids : n strings or integers
    scores : float32[n]

    Returns
    -------
    query_id, doc_id (strings or int64), rank (int32, from 1 in each query), score (float32)
    """
    queries, documents = id_array(query_ids), id_array(doc_ids)
    bounds: Int64 = np.asarray(offsets, np.int64)
    counts = np.diff(bounds)
    n = len(documents)
    if len(counts) != len(queries) or bounds[0] != 0 or bounds[-1] != n or len(scores) != n:
        raise ValueError("offsets, doc_ids and scores of different lengths")
    ranks = np.arange(1, n + 1) - np.repeat(bounds[:-1], counts)
    of_hit = int64_array(np.repeat(np.arange(len(counts)), counts))
    return pa.Table.from_arrays(
        [
            queries.take(of_hit),
            documents,
            _primitive(ranks, "int32"),
            _primitive(scores, "float32"),
        ],
        ["query_id", "doc_id", "rank", "score"],
    )


class RunWriter:
    """Writes a run, some queries at a time, to a file that appears whole or not at all.

    Parameters
    ----------
    path : its suffix chooses the form: .parquet, .trec or .tsv (with a header line)
    tag : the last column of .trec

    Raises
    ------
    SettingsError
        Another suffix, a tag with white space, or a place that cannot be written to.
    """

    def __init__(self, path: str | Path, tag: str = "fastseq") -> None:
        self._path = Path(path)
        self._suffix = self._path.suffix.lower()
        if self._suffix not in RUN_SUFFIXES:
            raise SettingsError(
                f"{path}: a run ends in {', '.join(RUN_SUFFIXES)}, not {self._suffix!r}"
            )
        if len(tag.split()) != 1:
            raise SettingsError(f"the tag of a run is one word, not {tag!r}")
        self._tag = tag
        self._stack = ExitStack()
        self._parquet: pq.ParquetWriter | None = None
        self._text: BinaryIO | None = None

    def __enter__(self) -> RunWriter:
        self._temporary = self._stack.enter_context(written_whole(self._path))
        if self._suffix != ".parquet":
            self._text = self._stack.enter_context(open(self._temporary, "wb"))
            if self._suffix == ".tsv":
                self._text.write(b"query_id\tdoc_id\trank\tscore\n")
        return self

    def append(self, query_ids: Ids, offsets: npt.ArrayLike, doc_ids: Ids, scores: Float32) -> None:
        """Write some queries after those before; the parameters are those of `run_table`.

        Raises
        ------
        DataError
            An id that the text form cannot hold: empty, or with white space in it.
        """
        table = run_table(query_ids, offsets, doc_ids, scores)
        if self._text is None:
            if table.num_rows:
                (self._parquet or self._open_parquet(table.schema)).write_table(table)
            return
        for start in range(0, table.num_rows, _LINES):
            self._text.write(self._lines(table.slice(start, _LINES)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and self._text is None and self._parquet is None:
            self._open_parquet(run_table([], [0], [], np.zeros(0, np.float32)).schema)
        # closes what is open, then renames the file or, after an error, removes it
        self._stack.__exit__(kind, error, traceback)

    def _open_parquet(self, schema: pa.Schema) -> pq.ParquetWriter:
        self._parquet = self._stack.enter_context(
            pq.ParquetWriter(self._temporary, schema, compression="zstd")
        )
        return self._parquet

    def _lines(self, table: pa.Table) -> memoryview:
        """The rows as text. Arrow joins the columns; the bytes it lays out are the lines."""
        import pyarrow.compute as pc

        trec = self._suffix == ".trec"
        queries, documents, ranks, scores = (
            pa.concat_arrays(column.chunks) for column in table.columns
        )
        for name, ids in (("query", queries), ("document", documents)):
            if is_string(ids.type):
                _refuse_white_space(ids, name, self._path, b" \t\n\v\f\r" if trec else b"\t\n\r")
        columns = [queries.cast(pa.string()), documents.cast(pa.string()), ranks.cast(pa.string())]
        if trec:
            columns.insert(1, string_scalar("Q0", pa.string()))
        columns.append(scores.cast(pa.string()))
        between, last = (" ", f" {self._tag}\n") if trec else ("\t", "\n")
        joined = pc.binary_join_element_wise(*columns, string_scalar(between, pa.string()))
        lines = pc.binary_join_element_wise(
            joined, string_scalar(last, pa.string()), string_scalar("", pa.string())
        )
        return to_texts(lines).data.data


def write_run(
    path: str | Path,
    query_ids: Ids,
    offsets: npt.ArrayLike,
    doc_ids: Ids,
    scores: Float32,
    tag: str = "fastseq",
) -> None:
    """Write a run at once: `RunWriter` with the parameters of `run_table`."""
    with RunWriter(path, tag) as writer:
        writer.append(query_ids, offsets, doc_ids, scores)


def read_run(path: str | Path) -> dict[str, dict[str, float]]:
    """A run as {query id: {document id: score}}, ids as strings, which is what ir-measures takes.

    Parquet (query_id, doc_id, score), .tsv with a header line, or TREC's six columns in a file of
    any other suffix.

    Raises
    ------
    DataError
        The file is missing or damaged, a line has another number of columns, a score is no
        number, or a document is there twice for one query.
    """
    suffix = Path(path).suffix.lower()
    run: dict[str, dict[str, float]] = {}
    if suffix == ".parquet":
        rows = _parquet_rows(path, (QUERY_ID_NAMES, DOC_ID_NAMES, ("score",)))
    elif suffix == ".tsv":
        rows = _headed_rows(path, (QUERY_ID_NAMES, DOC_ID_NAMES, ("score",)))
    else:
        rows = _trec_rows(path, 6, (0, 2, 4), "query_id Q0 doc_id rank score tag")
    for place, query, document, value in rows:
        try:
            score = float(value)
        except (TypeError, ValueError):
            score = np.nan
        if score != score:
            raise DataError(f"{path}, {place}: expected a number as score, not {value!r}")
        scores = run.setdefault(query, {})
        if document in scores:
            raise DataError(f"{path}, {place}: {document!r} is there twice for query {query!r}")
        scores[document] = score
    return run


def read_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Judgements as {query id: {document id: relevance}}, ids as strings.

    Parquet (query_id, doc_id, rel), .tsv with a header line, or TREC's four columns in a file of
    any other suffix.

    Raises
    ------
    DataError
        The file is missing or damaged, a line has another number of columns, a relevance is no
        integer, or a document has two of them for one query.
    """
    suffix = Path(path).suffix.lower()
    qrels: dict[str, dict[str, int]] = {}
    names = ((*QUERY_ID_NAMES, "query-id"), (*DOC_ID_NAMES, "corpus-id"), REL_NAMES)
    if suffix == ".parquet":
        rows = _parquet_rows(path, names)
    elif suffix == ".tsv":
        rows = _headed_rows(path, names)
    else:
        rows = _trec_rows(path, 4, (0, 2, 3), "query_id 0 doc_id rel")
    for place, query, document, value in rows:
        try:
            rel = int(value)
        except (TypeError, ValueError, OverflowError):
            rel = None
        if rel is None or (isinstance(value, float) and rel != value):
            raise DataError(f"{path}, {place}: expected an integer as relevance, not {value!r}")
        if qrels.setdefault(query, {}).setdefault(document, rel) != rel:
            raise DataError(f"{path}, {place}: {document!r} has two relevances for query {query!r}")
    return qrels


def _parquet_rows(
    path: str | Path, names: Sequence[Sequence[str]]
) -> Iterator[tuple[str, str, str, Any]]:
    queries, documents, values = read_columns(path, names)
    columns = (
        map(str, id_list(queries, f"{path}: the query id")),
        map(str, id_list(documents, f"{path}: the document id")),
        values.to_pylist() if not is_string(values.type) else values.cast(pa.string()).to_pylist(),
    )
    for row, (query, document, value) in enumerate(zip(*columns, strict=True)):
        yield f"row {row} (from 0)", query, document, value


def _headed_rows(
    path: str | Path, names: Sequence[Sequence[str]]
) -> Iterator[tuple[str, str, str, Any]]:
    at: list[int] = []
    width = 0
    for number, line in read_lines(path):
        fields = line.split("\t")
        if not at:
            width = len(fields)
            for wanted in names:
                name = next((name for name in wanted if name in fields), None)
                if name is None:
                    raise DataError(f"{path}, line {number}: no column {wanted[0]!r} in the header")
                at.append(fields.index(name))
            continue
        if len(fields) != width:
            raise DataError(f"{path}, line {number}: {len(fields)} columns, the header has {width}")
        query, document, value = (fields[i] for i in at)
        yield f"line {number}", query, document, value


def _trec_rows(
    path: str | Path, width: int, at: tuple[int, int, int], form: str
) -> Iterator[tuple[str, str, str, Any]]:
    first, second, third = at
    for number, line in read_lines(path):
        fields = line.replace("\t", " ").split(" ")  # an id may hold other white space
        fields = [field for field in fields if field]
        if len(fields) != width:
            raise DataError(
                f"{path}, line {number}: {len(fields)} columns, expected {width}: {form}"
            )
        yield f"line {number}", fields[first], fields[second], fields[third]


def _refuse_white_space(ids: pa.Array, what: str, path: Path, separators: bytes) -> None:
    texts = to_texts(ids)
    white = np.zeros(256, np.bool_)
    white[list(separators)] = True
    at = np.flatnonzero(white[texts.data])
    row = None
    if len(at):
        row = int(np.searchsorted(texts.offsets, at[0], "right")) - 1
    elif len(empty := np.flatnonzero(np.diff(texts.offsets) == 0)):
        row = int(empty[0])
    if row is not None:
        raise DataError(
            f"{path}: the {what} id {ids[row].as_py()!r} is empty or has white space, which this "
            "form cannot hold: write to .parquet"
        )


def _primitive(values: npt.NDArray[Any], kind: str) -> pa.Array:
    values = np.ascontiguousarray(values, kind)
    arrow = pa.int32() if kind == "int32" else pa.float32()
    return pa.Array.from_buffers(arrow, len(values), [None, pa.py_buffer(values)])
