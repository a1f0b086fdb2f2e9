"""JSON Lines, CSV and TSV, compressed with gzip or zstd or not.

A file is read twice in blocks of whole records: to find the columns and their types, for which
every row counts, and then for the rows. Memory is a few blocks; a row may have up to 2 GB.

JSON Lines have an object a line. Integers, numbers, booleans and strings keep their type; integers
and numbers in one column are numbers, nested objects structs, and strings never dates. A column,
not a nested field, of integers up to 2^64 - 1 is unsigned; larger integers are numbers. A value is
null where an object lacks the field, and so is an object without fields.

CSV (RFC 4180, with a header) and TSV (the same without quotes) have integers, numbers and strings:
a column is integers where each value is one as Python prints it, numbers where each is an integer
or a decimal fraction, else strings as they are written, such as 007; columns of text are strings,
and ids integers or strings. A column of empty fields has no type. An empty field is null, a quoted
one an empty string. Empty lines are ignored; but in CSV and TSV of a single column they are rows,
after the header, with an empty field.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, RowError, located, quoted
from fastseq.settings import thread_count
from fastseq.store.arrays import promoted, writable_bytes
from fastseq.store.data_files import DataFile
from fastseq.store.locations import CSV, EXPECTED, JSON, TSV
from fastseq.store.nested import select, top_level
from fastseq.store.sources import MAX_ROWS, FileSource
from fastseq.threads import in_order

BLOCK = 1 << 20  # bytes
_LARGEST = (1 << 31) - 1  # bytes of a block, for pyarrow
_BOM = b"\xef\xbb\xbf"
_NEWLINE = 10
_JSON_START = re.compile(rb'\s*(\{|\[\s*[{["\]])')  # an object, or an array, which is an error

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records of a file.

    data   a buffer
    line   number of its first line, from 1
    first  whether it is the first of the file
    """

    data: pa.Buffer
    line: int
    first: bool


class RecordFileSource(FileSource):
    """A text file of records."""

    def __init__(self, file: DataFile) -> None:
        super().__init__(file)
        self.num_rows = 0
        self._scan()

    @abstractmethod
    def _scan(self) -> None:
        """Read the file to find its schema and number of rows."""

    @abstractmethod
    def _parsed(self, block: Block, columns: Sequence[str]) -> pa.Table:
        """The rows of a block. Raises DataError, which names the line, or RowError."""

    @abstractmethod
    def _cutter(self) -> Callable[[pa.Buffer], int]:
        """A function that gets the parts of the file in order, and returns the end of the last
        record that ends in a part, 0 for none. After the last part it gets an empty one, and
        returns -1 where a quote is open."""

    def _blocks(self) -> Iterator[Block]:
        """The blocks of the file. Raises DataError."""
        line, first = 1, True
        record_end = self._cutter()
        pending: list[pa.Buffer] = []
        size = 0
        with self._file.reading(), self._file.text() as stream:
            while True:
                data = stream.read_buffer(BLOCK)
                if first and not pending and bytes(data[:3]) == _BOM:
                    data = data[3:]
                stop = record_end(data)
                if stop < 0:
                    raise DataError(f"{self.name}, line {line}: a quote is not closed")
                if stop or not len(data):
                    block = _concatenated([*pending, data[:stop]])
                    if len(block):
                        yield Block(block, line, first)
                        first = False
                    if not len(data):
                        return
                    line += int(np.count_nonzero(writable_bytes(block) == _NEWLINE))
                    pending, size = [], 0
                pending.append(data[stop:])
                size += len(data) - stop
                if size > _LARGEST - BLOCK:
                    raise DataError(f"{self.name}, line {line}: {self._too_long}")

    _too_long = "a row of more than 2 GB, expected shorter ones"

    def _each(
        self, parse: Callable[[Block], Result], threads: int
    ) -> Iterator[tuple[Block, Result]]:
        """Each block of the file, parsed ahead on other threads."""
        with ThreadPoolExecutor(threads, "fastseq-parse") as pool:
            yield from in_order(pool, parse, self._blocks(), threads + 1)

    def _read(self, columns: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
        needed = top_level(self.schema, columns)
        rows = 0
        with located(lambda row: f"{self.name}: row {rows + row} (from 0)"):
            for _, table in self._each(lambda block: self._parsed(block, needed), 1):
                for batch in table.to_batches(MAX_ROWS):
                    yield select(batch, columns)
                rows += table.num_rows


def _concatenated(parts: Sequence[pa.Buffer]) -> pa.Buffer:
    parts = [part for part in parts if len(part)]
    return parts[0] if len(parts) == 1 else pa.py_buffer(b"".join(parts))


def sniffed(file: DataFile, single: Collection[str]) -> str:
    """The format of a text file without a name, by its first line that is not empty. A line without
    a delimiter is the header of a CSV file if it is one of the names in `single`. Raises
    DataError."""
    with file.reading(), file.text() as stream:
        start = bytes(stream.read(BLOCK)).removeprefix(_BOM)
    if _JSON_START.match(start):
        return JSON
    line = re.split(rb"[\r\n]", start.lstrip(b"\r\n"), maxsplit=1)[0]
    if b"\0" in line or not line.strip():
        raise DataError(f"{file.name}: of no known format, expected {EXPECTED} or an Arrow stream")
    if b"\t" not in line and b"," not in line and _unquoted(line) not in single:
        names = " or ".join(map(repr, single))
        raise DataError(
            f"{file.name}: of no known format: the first line is neither a JSON object nor a CSV "
            f"header, expected columns separated by commas or tabs, or the single column {names}"
        )
    return TSV if b"\t" in line and b"," not in line.partition(b"\t")[0] else CSV


def _unquoted(field: bytes) -> str:
    """The value of a field of CSV."""
    text = field.decode(errors="replace")
    return text[1:-1].replace('""', '"') if re.fullmatch('".*"', text) else text


# ---- JSON Lines


class JsonSource(RecordFileSource):
    """A file of JSON Lines."""

    def _scan(self) -> None:
        kinds: dict[str, pa.DataType] = {}
        rows = 0
        large: dict[str, None] = {}  # columns with numbers from 2^63 on
        for block, table in self._each(lambda block: self._parsed(block, None), thread_count(None)):
            rows += table.num_rows
            for field in table.schema:
                if field.type == pa.float64() and _largest(table.column(field.name)) >= 2**63:
                    large[field.name] = None
                before = kinds.get(field.name, pa.null())
                agreed = promoted(before, _json_type(field.type))
                if agreed is None:
                    raise self._conflict(block, field.name, before)
                kinds[field.name] = agreed
        for name in large:
            if kinds[name] == pa.float64() and self._is_unsigned(name):
                kinds[name] = pa.uint64()
        self.num_rows = rows
        self.schema = pa.schema(list(kinds.items()))

    def _is_unsigned(self, name: str) -> bool:
        """Whether all values of a column are integers from 0 to 2^64 - 1, which pyarrow infers as
        floats."""
        kind = pa.schema([(name, pa.uint64())])
        try:
            for _ in self._each(lambda block: _parse_json(block.data, kind), thread_count(None)):
                pass
        except pa.ArrowException:
            return False
        return True

    def _conflict(self, block: Block, name: str, before: pa.DataType) -> DataError:
        """The first line of a block whose value of a column does not agree with the type before."""

        def differs(table: pa.Table) -> bool:
            kind = table.schema.field(name).type if name in table.schema.names else pa.null()
            return promoted(before, _json_type(kind)) is None

        line, table = self._first_line(block, differs)
        kind: Any = "of another type"
        if table is not None and name in table.schema.names:
            kind = _json_type(table.schema.field(name).type)
        problem = f"the column {quoted(name)} is {kind}, but {before} in earlier lines"
        return DataError(f"{self.name}, line {line}: {problem}")

    def _cutter(self) -> Callable[[pa.Buffer], int]:
        return lambda data: bytes(data).rfind(b"\n") + 1

    def _parsed(self, block: Block, columns: Sequence[str] | None) -> pa.Table:
        """The rows of a block; of all columns, of the types that this block has, for None."""
        explicit = None
        if columns is not None:
            fields = [self.schema.field(name) for name in columns]
            # an object without fields is no null to pyarrow: such a column is added afterwards
            explicit = pa.schema([field for field in fields if not pa.types.is_null(field.type)])
        try:
            table = _parse_json(block.data, explicit)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            line, _ = self._first_line(block, lambda table: False, explicit)
            problem = _json_problem(one_line(error))
            raise DataError(f"{self.name}, line {line}: {problem}") from error
        self._check_lines(block, table)
        if explicit is None or columns is None:
            return table
        for name in columns:
            if name not in explicit.names:
                table = table.append_column(name, pa.nulls(table.num_rows))
        return table.select(list(columns))

    def _check_lines(self, block: Block, table: pa.Table) -> None:
        """Check that each line is an object: pyarrow also accepts several of each other."""
        newlines = int(np.count_nonzero(writable_bytes(block.data) == _NEWLINE))
        ended = bytes(block.data[-1:]) == b"\n"
        if table.num_rows == newlines + (not ended):
            return
        for number, line in enumerate(bytes(block.data).split(b"\n"), block.line):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                raise DataError(f"{self.name}, line {number}: expected a JSON object on each line")

    def _first_line(
        self,
        block: Block,
        is_wrong: Callable[[pa.Table], bool],
        explicit: pa.Schema | None = None,
    ) -> tuple[int, pa.Table | None]:
        """The first line with which a block is wrong or cannot be parsed, and the table up to
        it."""
        lines = bytes(block.data).split(b"\n")
        low, high = 0, len(lines)  # lines[:low] are right, lines[:high] are not
        last: pa.Table | None = None
        while high - low > 1:
            middle = (low + high) // 2
            try:
                table = _parse_json(pa.py_buffer(b"\n".join(lines[:middle]) + b"\n"), explicit)
                wrong = is_wrong(table)
            except (pa.ArrowException, UnicodeDecodeError):
                table, wrong = None, True
            if wrong:
                high, last = middle, table
            else:
                low = middle
        if last is None:
            try:
                last = _parse_json(pa.py_buffer(lines[high - 1] + b"\n"), None)
            except (pa.ArrowException, UnicodeDecodeError):
                last = None
        return block.line + high - 1, last


def _parse_json(data: pa.Buffer, explicit: pa.Schema | None) -> pa.Table:
    import pyarrow.json as pj  # used for such files only

    how = "infer" if explicit is None else "ignore"
    table = pj.read_json(
        pa.BufferReader(data),
        read_options=pj.ReadOptions(use_threads=False, block_size=max(len(data), 1)),
        parse_options=pj.ParseOptions(explicit_schema=explicit, unexpected_field_behavior=how),
    )
    table.schema.names  # noqa: B018 - raises UnicodeDecodeError for names that are not UTF-8
    return table


def _largest(column: pa.ChunkedArray) -> float:
    import pyarrow.compute as pc

    largest: float | None = pc.max(column).as_py()
    return 0.0 if largest is None else largest


def _json_type(kind: pa.DataType) -> pa.DataType:
    """The type that values of an inferred type are read as: dates are strings; an object without
    fields, or with nulls alone, is null."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        fields = [field.with_type(_json_type(field.type)) for field in kind]
        own = [field for field in fields if not pa.types.is_null(field.type)]
        return pa.struct(own) if own else pa.null()
    if pa.types.is_list(kind):
        element = _json_type(kind.value_type)
        empty = pa.types.is_null(element) and not pa.types.is_null(kind.value_type)
        return pa.null() if empty else pa.list_(element)
    return kind


def one_line(error: BaseException) -> str:
    """The message of an exception on one line."""
    return " ".join(str(error).split())


def _json_problem(message: str) -> str:
    message = re.sub(r"^JSON parse error: | in row \d+$", "", message)
    changed = re.fullmatch(r"Column\((.*)\) changed from (\w+) to (\w+)", message)
    if changed is not None:
        before, now = changed[2], changed[3]
        if not changed[1]:
            return f"expected a JSON object, not {_article(now)}"
        name = changed[1].removeprefix("/").replace("/", ".")
        kinds = f"{_article(now)}, but {_article(before)}"
        return f"the column {quoted(name)} is {kinds} in earlier lines"
    twice = re.fullmatch(r"Column\(/(.*)\) was specified twice", message)
    if twice is not None:
        return f"the column {twice[1].replace('/', '.')!r} occurs twice"
    return f"not JSON ({message})"


def _article(kind: str) -> str:
    return kind if kind == "null" else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


# ---- CSV and TSV

# of the strings of a column; of several blocks the largest
NULLS, INTEGERS, LARGE_INTEGERS, NUMBERS, STRINGS = range(5)
_TYPES = (pa.null(), pa.int64(), pa.int64(), pa.float64(), pa.string())
_LARGEST_FLOAT = 1 << 53  # up to which a float holds every integer
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NOT_A_NUMBER = r"^[+-]?0[0-9]|^[+-]?[0-9]{16,}$"  # leading zeros; integers that a float may round
_ROW = re.compile(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)")


class CsvSource(RecordFileSource):
    """A CSV file, or with tabs a TSV file, which has no quotes.

    empty_lines  how many lines are ignored because they are empty
    """

    _too_long = "a row of more than 2 GB, or a quote that is not closed"

    def __init__(self, file: DataFile, delimiter: str) -> None:
        self._delimiter = delimiter
        self._quotes = delimiter != "\t"
        self._names: list[str] = []  # of the file's columns
        self.empty_lines = 0
        super().__init__(file)

    def _scan(self) -> None:
        self._names = names = self._header()
        forms = [NULLS] * len(names)
        strings = pa.schema([(name, pa.string()) for name in names])

        def examined(block: Block) -> tuple[int, list[int]]:
            table = self._table(block, strings)
            # a column of strings remains one
            columns = zip(table.columns, list(forms), strict=True)
            found = [STRINGS if form == STRINGS else _form_of(column) for column, form in columns]
            return table.num_rows, found

        rows = 0
        with located(lambda row: f"{self.name}: row {rows + row} (from 0)"):
            for _, (count, found) in self._each(examined, thread_count(None)):
                forms[:] = map(_united, forms, found)
                rows += count
        self.num_rows = rows
        types = [_TYPES[form] for form in forms]
        self.schema = pa.schema(list(zip(names, types, strict=True)))

    def read_as_strings(self, columns: Collection[str]) -> bool:
        before = self.schema
        for at, field in enumerate(self.schema):
            if field.name in columns and field.name not in self.constants:
                self.schema = self.schema.set(at, field.with_type(pa.string()))
        return not self.schema.equals(before)

    def read_as_ids(self, column: str) -> bool:
        if column not in self._names or not pa.types.is_floating(self.schema.field(column).type):
            return False
        return self.read_as_strings([column])

    def _header(self) -> list[str]:
        """The names of the columns."""
        for block in self._blocks():
            try:
                names: list[str] = self._table(block, None).schema.names
                return names
            except RowError as error:
                raise DataError(f"{self.name}: row {error.row} (from 0): {error.problem}") from None
        raise DataError(f"{self.name}: no header, expected {EXPECTED}")

    def _cutter(self) -> Callable[[pa.Buffer], int]:
        from fastseq.kernels.text import records

        state = np.array([records.RECORD_START, 0], np.int64)
        delimiter, quote = ord(self._delimiter), ord('"') if self._quotes else records.NO_QUOTES
        begun = False  # the first block has the header, also after empty lines

        def record_end(data: pa.Buffer) -> int:
            nonlocal begun
            if not len(data):
                self.empty_lines = 0 if len(self._names) == 1 else int(state[1])
                return -1 if state[0] == records.IN_QUOTES else 0
            end = int(records.last_record_end(state, writable_bytes(data), delimiter, quote))
            begun = begun or bool(bytes(data[:end]).strip(b"\r\n"))
            return end if begun else 0

        return record_end

    def _parsed(self, block: Block, columns: Sequence[str]) -> pa.Table:
        own = pa.schema([self.schema.field(name) for name in self._names])
        return self._table(block, own, columns).select(list(columns))

    def _table(
        self, block: Block, schema: pa.Schema | None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows of a block, with the columns of a schema, or all; without a schema, of the types
        that pyarrow infers. Raises RowError."""
        import pyarrow.csv as pc  # used for such files only

        data = block.data
        single = schema is not None and len(schema) == 1
        if bytes(data[:1]) in b"\r\n":
            text = bytes(data).lstrip(b"\r\n")
            if not text and schema is not None and not single:
                return schema.empty_table()
            if block.first and text:  # what is before the header is no row
                data = pa.py_buffer(text)
        if bytes(data[-1:]) not in b"\r\n":
            data = pa.py_buffer(bytes(data) + b"\n")
        names = None if schema is None or block.first else schema.names
        types = None if schema is None else dict(zip(schema.names, schema.types, strict=True))
        read = pc.ReadOptions(use_threads=False, block_size=len(data), column_names=names)
        parse = pc.ParseOptions(
            delimiter=self._delimiter,
            quote_char='"' if self._quotes else False,
            newlines_in_values=self._quotes,
            ignore_empty_lines=not single,
        )
        convert = pc.ConvertOptions(
            check_utf8=False,
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            include_columns=None if columns is None else list(columns),
        )
        try:
            table = pc.read_csv(pa.BufferReader(data), read, parse, convert)
            table.schema.names  # noqa: B018 - raises UnicodeDecodeError for names that are not UTF-8
            return table
        except (pa.ArrowException, UnicodeDecodeError) as error:
            found = _ROW.match(str(error))
            if found is None:
                raise DataError(f"{self.name}, line {block.line}: {one_line(error)}") from error
            row = int(found[1]) - 1 - block.first
            raise RowError(row, f"{found[3]} fields, but {found[2]} in the header") from error


def _form_of(column: pa.ChunkedArray) -> int:
    """The form of the strings in a column of a block."""
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return NULLS
    try:
        integers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        numbers = pc.all(pc.match_substring_regex(column, _NUMBER)).as_py()
        others = pc.any(pc.match_substring_regex(column, _NOT_A_NUMBER)).as_py()
        return NUMBERS if numbers and not others else STRINGS
    if not pc.all(pc.equal(integers.cast(pa.string()), column)).as_py():
        return STRINGS
    low, high = pc.min_max(integers).as_py().values()
    return INTEGERS if max(-low, high) < _LARGEST_FLOAT else LARGE_INTEGERS


def _united(a: int, b: int) -> int:
    """The form of a column of two forms: large integers, which a float may round, and numbers are
    strings."""
    return STRINGS if {a, b} == {LARGE_INTEGERS, NUMBERS} else max(a, b)
