"""Sample corpora of real text, made from the source of this Python's standard library.

The files are read with ast and tokenize and never imported, so that none of their code runs. The
same Python gives the same files, byte for byte.
"""

from __future__ import annotations

import ast
import io
import keyword
import math
import re
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastseq.errors import DataError

# tests, and programs whose modules are not public
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"}

QUERIES = 500  # maximum number, evenly spaced over the documents
QUERY_WORDS = (5, 16)  # distinct words of a query, from and to
LONGEST_ANSWER = 100  # words; a long document may contain a query's words by chance
MOST_SHARED = 0.5  # of a query's idf, in any other document
LABEL_ROWS = 60  # minimum documents of a package that is a label
TAGGED_LINES = 12_000  # maximum number, over both files
TAGGED_TOKENS = (4, 50)  # tokens of a line, from and to
LONGEST_TOKEN = 40  # characters
TEST_EVERY = 10  # one row in ten is for testing

KIND = "sample"  # of output
FILES = (
    "docs.parquet", "queries.parquet", "qrels.parquet", "labelled.parquet",
    "labelled_test.parquet", "tagged.parquet", "tagged_test.parquet",
)  # fmt: skip

_WORD = re.compile(r"\w\w+")
_TAGS = {tokenize.OP: "OP", tokenize.NUMBER: "NUMBER", tokenize.COMMENT: "COMMENT"}

T = TypeVar("T")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Document:
    """A docstring of the standard library."""

    id: str  # json.JSONDecoder.decode
    module: str  # json.decoder
    kind: str  # module, class, function or method
    title: str  # JSONDecoder.decode(self, s, _w=WHITESPACE.match)
    text: str  # the docstring without indentation


def write_samples(folder: Path, overwrite: bool = False) -> dict[str, int]:
    """Write every sample file into `folder`, created if missing; the rows of each file.

    docs.parquet            id, module, kind, title, text
    queries.parquet         query_id, text
    qrels.parquet           query_id, doc_id, rel
    labelled[_test].parquet label (the top-level package), text (its docstrings)
    tagged[_test].parquet   tokens, tags (lists of strings; logical lines of Python)

    overwrite : replace existing files of these names that are not known to be sample corpora

    Raises DataError if this Python's library has no source files, or `folder` is a file;
    SettingsError if a file exists that may not be replaced.
    """
    from fastseq.store.outputs import check_output
    from fastseq.store.parquet import write_columns

    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder to write the samples to")
    for file in FILES if folder.exists() else ():
        check_output(folder / file, KIND, overwrite=overwrite)
    modules = library_modules()
    documents = library_documents(modules)
    queries = known_item_queries(documents)
    ids, answers = list(queries), list(queries.values())
    names = Document.__dataclass_fields__
    tables: dict[str, dict[str, Any]] = {
        "docs.parquet": {name: [getattr(d, name) for d in documents] for name in names},
        "queries.parquet": {"query_id": ids, "text": [summary(d.text) for d in answers]},
        "qrels.parquet": {
            "query_id": ids, "doc_id": [d.id for d in answers], "rel": [1] * len(ids),
        },
    }  # fmt: skip
    for name, columns, rows in (
        ("labelled", ("label", "text"), labelled(documents)),
        ("tagged", ("tokens", "tags"), tagged_lines(modules)),
    ):
        test = rows[TEST_EVERY - 1 :: TEST_EVERY]
        train = [row for i, row in enumerate(rows) if i % TEST_EVERY != TEST_EVERY - 1]
        for file, part in ((f"{name}.parquet", train), (f"{name}_test.parquet", test)):
            tables[file] = {column: [row[c] for row in part] for c, column in enumerate(columns)}
    folder.mkdir(parents=True, exist_ok=True)
    for file, table in tables.items():
        write_columns(folder / file, table, KIND)
    return {file: len(next(iter(table.values()))) for file, table in tables.items()}


def library_modules(root: Path | None = None) -> dict[str, Path]:
    """Public modules of the library under `root` (this Python's), by dotted name, sorted."""
    root = root or Path(sysconfig.get_paths()["stdlib"])
    modules: dict[str, Path] = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts and not any(p in SKIPPED or not p.isidentifier() or p[0] == "_" for p in parts):
            modules[".".join(parts)] = path
    if not modules:
        raise DataError(f"{root}: this Python's standard library is not there as source files")
    return dict(sorted(modules.items()))


def library_documents(modules: dict[str, Path]) -> list[Document]:
    """Every documented public module, class, function and method, in order of module and line."""
    documents: dict[str, Document] = {}
    for module, path in modules.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escapes in the library's own strings
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # the few files that are invalid on purpose
            continue
        text = _docstring(tree)
        if text:
            documents.setdefault(module, Document(module, module, "module", module, text))
        for found in _members(module, "", tree.body):
            documents.setdefault(found.id, found)
    return list(documents.values())


def known_item_queries(documents: list[Document]) -> dict[str, Document]:
    """Queries by id ("q001", …), each with the document whose summary line it is.

    No other document shares half of the query, weighted by idf, and the answers are not long, so
    that a working search engine ranks the answer first.
    """
    words = [frozenset(_WORD.findall(document.text.lower())) for document in documents]
    holders: dict[str, list[int]] = {}
    for i, held in enumerate(words):
        for word in held:
            holders.setdefault(word, []).append(i)
    chosen: list[Document] = []
    for i, document in enumerate(documents):
        if len(_WORD.findall(document.text.lower())) > LONGEST_ANSWER:
            continue
        asked = set(_WORD.findall(summary(document.text).lower()))
        if not QUERY_WORDS[0] <= len(asked) <= QUERY_WORDS[1]:
            continue
        shared: dict[int, float] = {}
        for word in asked:
            idf = math.log(len(documents) / len(holders[word]))
            for other in holders[word]:
                shared[other] = shared.get(other, 0.0) + idf
        whole = shared.pop(i)
        if max(shared.values(), default=0.0) <= MOST_SHARED * whole:
            chosen.append(document)
    chosen = _spread(chosen, QUERIES)
    digits = len(str(len(chosen)))
    return {f"q{n:0{digits}}": document for n, document in enumerate(chosen, 1)}


def labelled(documents: list[Document]) -> list[tuple[str, str]]:
    """(top-level package, docstring) of the packages with enough documents to learn."""
    packages = [document.id.partition(".")[0] for document in documents]
    sizes = Counter(packages)
    return [
        (package, document.text)
        for package, document in zip(packages, documents, strict=True)
        if sizes[package] >= LABEL_ROWS
    ]


def tagged_lines(modules: dict[str, Path]) -> list[tuple[list[str], list[str]]]:
    """(tokens, tags) of logical lines of Python source, without repeated ones.

    A token is a KEYWORD, OP, NUMBER, STRING or COMMENT, or a name by its role: DEFINITION (after
    def or class), CALL (before a parenthesis), ATTRIBUTE (after a dot), ARGUMENT (of a keyword or
    with a default), IMPORT (on such a line) or else NAME. Names need context on both sides.
    """
    lines: dict[tuple[str, ...], list[str]] = {}
    for path in _spread(list(modules.values()), 80):
        for tokens, tags in _tag_file(path):
            lines.setdefault(tuple(tokens), tags)
    return [(list(tokens), tags) for tokens, tags in _spread(list(lines.items()), TAGGED_LINES)]


def summary(text: str) -> str:
    """The first line of a docstring."""
    return text.partition("\n")[0].strip()


def _members(module: str, owner: str, body: list[ast.stmt]) -> Iterator[Document]:
    for node in _definitions(body):
        if node.name.startswith("_"):
            continue
        name = f"{owner}.{node.name}" if owner else node.name
        text = _docstring(node)
        if text:
            kind, title = "class", name
            if not isinstance(node, ast.ClassDef):
                kind = "method" if owner else "function"
                title = f"{name}({ast.unparse(node.args)})"
            yield Document(f"{module}.{name}", module, kind, title, text)
        if isinstance(node, ast.ClassDef):
            yield from _members(module, name, node.body)


def _definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Classes and functions of a body, also those under `if` and `try`."""
    for node in body:
        if isinstance(node, Definition):
            yield node
        elif isinstance(node, ast.If):
            yield from _definitions([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _definitions(node.body)
            for handler in node.handlers:
                yield from _definitions(handler.body)
            yield from _definitions(node.orelse)


def _docstring(node: Definition | ast.Module) -> str:
    # a docstring may write a lone surrogate as an escape, which no UTF-8 file can hold
    return (ast.get_docstring(node) or "").encode("utf-8", "replace").decode()


def _spread(values: list[T], most: int) -> list[T]:
    """At most `most` of the values, evenly spaced."""
    if len(values) <= most:
        return values
    return [values[i * len(values) // most] for i in range(most)]


def _tag_file(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """(tokens, tags) of each logical line that is neither too short nor too long."""
    line: list[tokenize.TokenInfo] = []
    try:
        for token in tokenize.tokenize(io.BytesIO(path.read_bytes()).readline):
            if token.type == tokenize.NEWLINE:
                if _fits(line):
                    yield [t.string for t in line], _tags(line)
                line = []
            elif token.string.strip() and token.type != tokenize.ENCODING:
                line.append(token)
    except (SyntaxError, tokenize.TokenError):  # invalid on purpose: the lines so far
        return


def _fits(line: list[tokenize.TokenInfo]) -> bool:
    return TAGGED_TOKENS[0] <= len(line) <= TAGGED_TOKENS[1] and all(
        len(token.string) <= LONGEST_TOKEN and token.string.isprintable() for token in line
    )


def _tags(line: list[tokenize.TokenInfo]) -> list[str]:
    texts = ["", *(token.string for token in line), ""]
    importing = texts[1] in ("import", "from")
    depth = 0
    tags = []
    for token, before, after in zip(line, texts, texts[2:], strict=False):
        text = token.string
        depth += (text in "([{") - (text in ")]}")
        if token.type != tokenize.NAME:  # f-strings have several types since Python 3.12
            tags.append(_TAGS.get(token.type, "STRING"))
        elif keyword.iskeyword(text):
            tags.append("KEYWORD")
        elif importing:
            tags.append("IMPORT")
        elif before in ("def", "class"):
            tags.append("DEFINITION")
        elif after == "(":
            tags.append("CALL")
        elif before == ".":
            tags.append("ATTRIBUTE")
        elif after == "=" and depth > 0:
            tags.append("ARGUMENT")
        else:
            tags.append("NAME")
    return tags
