"""Queries, runs and relevance judgments (qrels) in Parquet, TREC, tab-separated files, JSON Lines
and CSV.

A run has four columns: query_id, doc_id, rank (int32, from 1) and score (float32), sorted by query
and rank. In TREC's form each line is `query_id Q0 doc_id rank score tag`, for qrels
`query_id 0 doc_id rel`.
"""

from __future__ import annotations

import json
import os
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fastseq.errors import DataError, RowError, SettingsError, warn
from fastseq.store.arrays import (
    first_null,
    is_string,
    is_text,
    number_array,
    one_chunk,
    repaired,
    string_scalar,
    to_texts,
)
from fastseq.store.data_files import DataFile, LocalFile, single_file
from fastseq.store.files import Readable, created, reason, written_whole
from fastseq.store.ids import EXPECTED, id_array, id_list, is_id
from fastseq.store.impacts import is_impacts, weighted_queries
from fastseq.store.locations import CSV, FORMATS, JSON, PARQUET, TSV, suffix_of
from fastseq.store.outputs import TAG
from fastseq.store.parquet import (
    chosen_columns,
    first_bytes,
    parquet_writer,
    plain_columns,
    read_columns,
    read_lines,
)
from fastseq.store.sources import PARQUET_FILE, skipped_lines
from fastseq.types import Float32, Int64

QUERY_ID_NAMES = ("query_id", "qid", "id", "_id")
QUERY_TEXT_NAMES = ("text", "query")
DOC_ID_NAMES = ("doc_id", "docid", "docno")
REL_NAMES = ("rel", "relevance", "score")
RUN_SUFFIXES = (".parquet", ".trec", ".tsv", ".trec.gz", ".tsv.gz", ".trec.zst", ".tsv.zst")
LARGEST_REL = 1_000_000  # pytrec_eval allocates an array of as many levels
# in the header of a text file, lower-cased and without punctuation
_HEADER_IDS = {"id", "qid", "queryid", "topic", "topicid", "number", "num"}
_HEADER_TEXTS = {"text", "query", "querytext", "question", "title"}
_LINES = 1 << 18  # formatted at a time
_HEAD = 1 << 16  # bytes in which the first line is examined
_BATCH = 1 << 26  # bytes of JSON Lines or CSV read at a time
TREC, LINES = "TREC", "lines"  # formats besides those of FORMATS; lines of queries

Ids: TypeAlias = Iterable[str] | Iterable[int] | pa.Array | pa.ChunkedArray


# ---- queries


def read_queries(
    path: str | os.PathLike[str], impacts: str | None = None
) -> tuple[list[str] | list[int], list[Any]]:
    """The ids and texts of the queries in a file, in order.

    Parquet, each object of JSON Lines, and CSV have the columns `query_id` (or `qid`, `id`, `_id`)
    and `text` (or `query`). Each line of a .tsv or .txt file has the id, a tab and the text; a
    first line that names these columns is a header. Text may be compressed with gzip or zstd. A
    null text is an empty query. Warns when a header or empty lines are skipped.

    impacts : a column that is read instead of the text where the file has it: terms with weights
        (impacts.py), in JSON Lines an object; such a query is a dict
    path : "-" is standard input. The format of a pipe, and of a file with another suffix than those
        of data and .txt, is recognised by the content

    Raises DataError: the file is missing, damaged or of no known format, a column is missing or of
    the wrong type, an id is null or duplicated, a line has no tab (naming file and line or row).
    """
    source = single_file(path)
    texts_or_weights = QUERY_TEXT_NAMES if impacts is None else (impacts, *QUERY_TEXT_NAMES)
    names = [QUERY_ID_NAMES, texts_or_weights]
    expected = (
        "queries: Parquet, JSON Lines or CSV with the columns query_id and text, or lines of an "
        "id, a tab and the text"
    )

    def recognised(line: str) -> str | None:
        return LINES if "\t" in line else CSV if _is_header_of(names, line, ",") else None

    form = _format_of(source, {".tsv": LINES, ".txt": LINES}, recognised, expected)
    ids: list[Any]
    texts: list[Any]
    if form == JSON:
        ids, texts = _queries_in_json(source, names)
    elif form in (LINES, None):
        if form is None:
            raise DataError(f"{source}: empty, expected {expected}")
        ids, texts = _queries_in_lines(source)
    else:
        ids, texts = _queries_in_columns(source, form, names)
    seen: set[Any] = set()
    for value in ids:
        if value in seen:
            problem = f"the query id {value!r} is duplicated, expected one row for each"
            raise DataError(f"{source}: {problem}")
        seen.add(value)
    return ids, texts


def _queries_in_columns(
    source: Readable, form: str, names: Sequence[Sequence[str]]
) -> tuple[list[Any], list[Any]]:
    ids, texts = _columns(source, form, names, strings=QUERY_TEXT_NAMES)
    if len(names[1]) > len(QUERY_TEXT_NAMES) and is_impacts(texts.type):
        weighted = weighted_queries(texts, f"{source}: the queries")
        return _id_list(ids, f"{source}: the query id"), weighted
    if not is_text(texts.type):
        raise DataError(f"{source}: the text of the queries is {texts.type}, expected strings")
    strings = repaired(texts.cast(pa.string(), safe=False))
    return _id_list(ids, f"{source}: the query id"), [text or "" for text in strings.to_pylist()]


def _queries_in_json(
    path: Readable, columns: Sequence[Sequence[str]]
) -> tuple[list[Any], list[Any]]:
    ids: list[Any] = []
    texts: list[Any] = []
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        try:
            query = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON ({reason(error)})") from error
        if not isinstance(query, dict):
            raise DataError(f"{where}: a {type(query).__name__}, expected an object")
        names = [next((n for n in ns if n in query), None) for ns in columns]
        if None in names:
            wanted = columns[1][-2] if names[0] is not None else QUERY_ID_NAMES[0]
            raise DataError(f"{where}: no field {wanted!r}; its fields: {', '.join(query)}")
        identifier, text = (query[name] for name in names)
        if isinstance(identifier, bool) or not isinstance(identifier, str | int):
            raise DataError(f"{where}: the query id is {identifier!r}, expected a string")
        if names[1] not in QUERY_TEXT_NAMES and isinstance(text, dict):
            if not all(type(weight) in (int, float) for weight in text.values()):
                raise DataError(f"{where}: {names[1]!r} has a weight that is not a number")
        elif not isinstance(text, str | None):
            raise DataError(f"{where}: the text is {text!r}, expected a string")
        ids.append(identifier)
        texts.append(text or "")
    return ids, texts


def _queries_in_lines(path: Readable) -> tuple[list[str], list[str]]:
    ids: list[str] = []
    texts: list[str] = []
    header, empty, before = "", 0, 0
    for number, line in read_lines(path):
        empty += number - before - 1
        before = number
        identifier, tab, text = line.partition("\t")
        if not tab or not identifier:
            raise DataError(f"{path}, line {number}: expected an id, a tab and the query")
        if not ids and not header and _is_header(identifier, text):
            header = line
            continue
        ids.append(identifier)
        texts.append(text)
    if header:
        notice = f"{path}: the first line is read as a header: {header!r}"
        warn(notice)
    _notice_empty_lines(path, empty)
    return ids, texts


def _is_header(identifier: str, text: str) -> bool:
    """Whether a first line names columns, as `query_id<TAB>text` and `#qid<TAB>Query` do."""
    names = [re.sub(r"[\W_]", "", name).lower() for name in (identifier, text.partition("\t")[0])]
    return names[0] in _HEADER_IDS and names[1] in _HEADER_TEXTS


def _id_list(array: pa.Array, where: str) -> list[Any]:
    """Ids as results contain them. Raises DataError, whose message begins with `where`, if they are
    of no type of ids, or one is null or a float that is not whole."""
    if not (is_id(array.type) or len(array) == 0):
        raise DataError(f"{where} is {array.type}, expected {EXPECTED}")
    if array.null_count:
        raise DataError(f"{where} is null in row {first_null(array)} (from 0)")
    try:
        return id_list(repaired(array))
    except RowError as error:
        raise DataError(f"{where}, row {error.row} (from 0): {error.problem}") from error


# ---- runs


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
    of_hit = number_array(np.repeat(np.arange(len(counts)), counts))
    columns = [queries.take(of_hit), documents]
    columns += [number_array(ranks, np.int32), number_array(scores, np.float32)]
    return pa.Table.from_arrays(columns, ["query_id", "doc_id", "rank", "score"])


class RunWriter:
    """Writes a run, some queries at a time, atomically; a context manager.

    The suffix of the path chooses the form: .parquet, .trec or .tsv (with a header line), the
    latter two also compressed: .trec.gz, .trec.zst. Raises SettingsError for another suffix, or a
    path that cannot be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._suffix = suffix_of(path)
        if not self._path.name.lower().endswith(RUN_SUFFIXES):
            found = self._path.suffix.lower()
            raise SettingsError(f"{path}: a run ends in {', '.join(RUN_SUFFIXES)}, not {found!r}")
        self._stack = ExitStack()
        self._parquet: pq.ParquetWriter | None = None
        self._text: BinaryIO | None = None

    def __enter__(self) -> RunWriter:
        if self._suffix == ".parquet":
            self._temporary = self._stack.enter_context(written_whole(self._path))
        else:
            self._text = self._stack.enter_context(created(self._path))
            if self._suffix == ".tsv":
                self._text.write(b"query_id\tdoc_id\trank\tscore\n")
        return self

    def append(self, query_ids: Ids, offsets: npt.ArrayLike, doc_ids: Ids, scores: Float32) -> None:
        """Append some queries; the parameters are those of `run_table`. Raises DataError for an id
        that the text form cannot represent: empty, or with white space in it."""
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
        # closes the writers, then renames the file or, after an error, removes it
        self._stack.__exit__(kind, error, traceback)

    def _open_parquet(self, schema: pa.Schema) -> pq.ParquetWriter:
        self._parquet = self._stack.enter_context(parquet_writer(self._temporary, schema, "run"))
        return self._parquet

    def _lines(self, table: pa.Table) -> memoryview:
        """The rows as text, joined by Arrow into one buffer."""
        import pyarrow.compute as pc

        trec = self._suffix == ".trec"
        queries, documents, ranks, scores = map(one_chunk, table.columns)
        for name, ids in (("query", queries), ("document", documents)):
            if is_string(ids.type):
                _refuse_white_space(ids, name, self._path, b" \t\n\v\f\r" if trec else b"\t\n\r")
        columns = [array.cast(pa.string()) for array in (queries, documents, ranks, scores)]
        if trec:
            columns.insert(1, string_scalar("Q0", pa.string()))
        between, last = (" ", f" {TAG}\n") if trec else ("\t", "\n")
        joined = pc.binary_join_element_wise(*columns, string_scalar(between, pa.string()))
        lines = pc.binary_join_element_wise(
            joined, string_scalar(last, pa.string()), string_scalar("", pa.string())
        )
        return to_texts(lines).data.data


def _refuse_white_space(ids: pa.Array, what: str, path: Path, separators: bytes) -> None:
    texts = to_texts(ids)
    white = np.zeros(256, np.bool_)
    white[list(separators)] = True
    bad = np.diff(texts.offsets) == 0
    bad[np.searchsorted(texts.offsets, np.flatnonzero(white[texts.data]), "right") - 1] = True
    if bad.any():
        raise DataError(
            f"{path}: the {what} id {ids[bad.argmax()].as_py()!r} is empty or has white space, "
            "which this format cannot represent: write to .parquet"
        )


def read_run(path: str | os.PathLike[str]) -> dict[str, dict[str, float]]:
    """Read a run as {query id: {document id: score}}, each query's documents in ranking order.

    The order is that of the ranks if every row of the query has a number as its rank; equal ranks,
    and queries without ranks, are ordered by descending score, then by descending document id (as
    trec_eval orders ties). Ids are strings.

    Parameters
    ----------
    path : Parquet, JSON Lines, CSV or TSV with the columns query_id, doc_id, score and optionally
        rank, or TREC's six columns; text may be compressed with gzip or zstd. "-" is standard
        input. The format of a pipe, and of a file with another suffix than those of data and .trec,
        is recognised by the content

    Raises DataError: the file is missing, damaged or of no known format, a line has the wrong
    number of columns, a score is not a number, or a query lists a document twice.
    """
    source = single_file(path)
    names = (QUERY_ID_NAMES, DOC_ID_NAMES, ("score",), ("rank", None))
    run: dict[str, dict[str, float]] = {}
    ranks: dict[str, list[float]] = {}
    for place, query, document, value, rank in _rows(
        source, names, (0, 2, 4, 3), 6, "query_id Q0 doc_id rank score tag"
    ):
        score = _number(value)
        if score != score:
            raise DataError(f"{source}, {place}: expected a number as score, not {value!r}")
        scores = run.setdefault(query, {})
        if document in scores:
            raise DataError(f"{source}, {place}: {document!r} is duplicated for query {query!r}")
        scores[document] = score
        ranks.setdefault(query, []).append(_number(rank))
    return {query: _ranked(scores, ranks[query]) for query, scores in run.items()}


def _ranked(scores: dict[str, float], ranks: list[float]) -> dict[str, float]:
    """The scores in ranking order (see `read_run`); a rank of NaN is missing."""
    if any(rank != rank for rank in ranks):
        ranks = [0.0] * len(ranks)
    if all(a < b for a, b in pairwise(ranks)):
        return scores
    rows = sorted(zip(scores, scores.values(), ranks, strict=True), reverse=True)
    rows.sort(key=lambda row: (row[2], -row[1]))
    return {document: score for document, score, _ in rows}


def read_qrels(path: str | os.PathLike[str]) -> dict[str, dict[str, int]]:
    """Read relevance judgments as {query id: {document id: relevance}}; ids are strings.

    Parameters
    ----------
    path : as of `read_run`, with the columns query_id, doc_id and rel (also BEIR's: query-id,
        corpus-id, score) or TREC's four

    Raises DataError: the file is missing, damaged or of no known format, a line has the wrong
    number of columns, a relevance is not an integer of at most 1,000,000, or a query gives a
    document two relevances.
    """
    file = single_file(path)
    names = ((*QUERY_ID_NAMES, "query-id"), (*DOC_ID_NAMES, "corpus-id"), REL_NAMES)
    qrels: dict[str, dict[str, int]] = {}
    for place, query, document, value in _rows(file, names, (0, 2, 3), 4, "query_id 0 doc_id rel"):
        try:
            rel = int(value)
        except (TypeError, ValueError, OverflowError):
            rel = None
        if rel is None or (isinstance(value, float) and rel != value):
            raise DataError(f"{file}, {place}: expected an integer as relevance, not {value!r}")
        if abs(rel) > LARGEST_REL:
            raise DataError(f"{file}, {place}: relevance {rel}, expected at most {LARGEST_REL:,}")
        if qrels.setdefault(query, {}).setdefault(document, rel) != rel:
            raise DataError(f"{file}, {place}: {document!r} has two relevances for query {query!r}")
    return qrels


def _rows(
    path: Readable,
    names: Sequence[Sequence[str | None]],
    at: Sequence[int],
    width: int,
    columns: str,
) -> Iterator[tuple[Any, ...]]:
    """(place, query id, document id, further values) of each row of a run or of judgments.

    names: the columns of files that name them, with alternatives, None for an optional column
    at, width, columns: the same columns in TREC's form, their number and their names
    """
    known = ", ".join(str(wanted[0]) for wanted in names if None not in wanted)
    expected = (
        f"the {width} columns of TREC ({columns}), or Parquet, JSON Lines, CSV or TSV with the "
        f"columns {known}"
    )

    def recognised(line: str) -> str | None:
        named = (form for form, by in ((TSV, "\t"), (CSV, ",")) if _is_header_of(names, line, by))
        return next(named, TREC if len(_split(line)) == width else None)

    form = _format_of(path, {".trec": TREC}, recognised, expected)
    if form in (PARQUET, JSON, CSV):
        queries, documents, *values = _columns(path, form, names)
        found = [
            map(str, _id_list(queries, f"{path}: the query id")),
            map(str, _id_list(documents, f"{path}: the document id")),
            *(column.to_pylist() for column in values),
        ]
        for row, each in enumerate(zip(*found, strict=True)):
            yield f"row {row} (from 0)", *each
        return
    places: list[int | None] = list(at) if form != TSV else []
    problem = f"expected {width}: {columns}"
    for number, line in read_lines(path):
        if form != TSV:
            fields = _split(line)
        else:
            fields = line.split("\t")
            if not places:
                width, problem = len(fields), f"the header has {len(fields)}"
                for wanted in names:
                    name = next((name for name in wanted if name in fields), None)
                    if name is None and None not in wanted:
                        missing = f"no column {wanted[0]!r} in the header"
                        raise DataError(f"{path}, line {number}: {missing}")
                    places.append(None if name is None else fields.index(name))
                continue
        if len(fields) != width:
            raise DataError(f"{path}, line {number}: {len(fields)} columns, {problem}")
        yield f"line {number}", *(None if i is None else fields[i] for i in places)


def _split(line: str) -> list[str]:
    """The columns of a line in TREC's form; an id may contain other white space."""
    return [field for field in line.replace("\t", " ").split(" ") if field]


def _number(value: Any) -> float:
    """The value as a float; NaN where it is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


# ---- formats


def _format_of(
    source: Readable, own: Mapping[str, str], recognised: Callable[[str], str | None], expected: str
) -> str | None:
    """The format by the suffix, else by the content; None for an empty file without a known suffix.

    own : formats by suffix, in addition to those of data
    recognised : the format of text that is no JSON, by its first line that is not blank; None for
        none
    expected : the content, for messages

    Raises DataError for a file of no known format.
    """
    suffix = suffix_of(source) if isinstance(source, str | os.PathLike) else ""
    form = own.get(suffix) or FORMATS.get(suffix)
    if form is not None:
        return form
    head = first_bytes(source, _HEAD)
    if head.startswith(PARQUET_FILE):
        return PARQUET
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        return None
    try:
        line = getincrementaldecoder("utf-8")().decode(re.split(rb"[\r\n]", head, maxsplit=1)[0])
    except UnicodeDecodeError:
        line = "\0"
    form = None if "\0" in line else JSON if line.startswith("{") else recognised(line)
    if form is None:
        raise DataError(f"{source}: of no known format, expected {expected}")
    return form


def _is_header_of(names: Sequence[Sequence[str | None]], line: str, separator: str) -> bool:
    """Whether a line names all of these columns, with alternatives, None for an optional one."""
    fields = [field.strip('"') for field in line.split(separator)]
    return all(None in wanted or any(name in fields for name in wanted) for wanted in names)


def _columns(
    source: Readable, form: str, names: Sequence[Sequence[str | None]], strings: Sequence[str] = ()
) -> list[pa.Array]:
    """Columns of Parquet, JSON Lines or CSV, as read_columns returns them; in CSV those called
    `strings` are read as such. Warns when empty lines of CSV are skipped."""
    if form == PARQUET:
        return read_columns(source, names)
    from fastseq.store.record_files import CsvSource, JsonSource

    file = LocalFile(Path(source)) if isinstance(source, str | os.PathLike) else source
    assert isinstance(file, DataFile)
    rows = JsonSource(file) if form == JSON else CsvSource(file, ",")
    rows.read_as_strings(strings)
    _notice_empty_lines(source, rows.empty_lines)
    found = chosen_columns(rows.schema, names, source)
    distinct = list(dict.fromkeys(name for name in found if name is not None))
    schema = pa.schema([rows.schema.field(name) for name in distinct])
    table = pa.Table.from_batches(rows.read(distinct, _BATCH), schema)
    return plain_columns(table, found)


def _notice_empty_lines(source: Readable, count: int) -> None:
    if count:
        warn(skipped_lines(str(source), count))
