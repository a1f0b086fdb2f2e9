"""Sample corpora of real text, made on any machine from the source of its Python.

The standard library's files are read with ast and tokenize and never imported, so making the
samples runs no code of theirs. The same Python gives the same files, byte for byte.
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
from typing import TypeVar

from fastseq.errors import DataError

# tests, and programs whose modules are not the library's public face
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"}

QUERIES = 500  # at most; they are spread evenly over the documents
QUERY_WORDS = (5, 16)  # distinct words of a query, from and to
LONGEST_ANSWER = 100  # words; a long document may hold a query's words without being about it
MOST_SHARED = 0.5  # of a query's idf, in any other document
LABEL_ROWS = 60  # documents that a package needs to be a label
TAGGED_LINES = 12_000  # at most, over both files
TAGGED_TOKENS = (4, 50)  # tokens of a line, from and to
LONGEST_TOKEN = 40  # characters
TEST_EVERY = 10  # one row in ten is held back for testing

KIND = "sample"  # of output
FILES = (
    "docs.parquet", "queries.parquet", "qrels.parquet", "labelled.parquet",
    "labelled_test.parquet", "tagged.parquet", "tagged_test.parquet",
)  # fmt: skip

_WORD = re.compile(r"\w\w+")

T = TypeVar("T")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Document:
    """One documented thing of the standard library."""

    id: str  # json.JSONDecoder.decode
    module: str  # json.decoder
    kind: str  # module, class, function or method
    title: str  # JSONDecoder.decode(self, s, _w=WHITESPACE.match)
    text: str  # the docstring, its indentation taken off


def write_samples(folder: Path, overwrite: bool = False) -> dict[str, int]:
    """Write every sample file into `folder`, made where missing, and return each one's rows.

    docs.parquet            id, module, kind, title, text
    queries.parquet         query_id, text
    qrels.parquet           query_id, doc_id, rel
    labelled[_test].parquet label (the top-level package), text (its docstrings)
    tagged[_test].parquet   tokens, tags (lists of strings; logical lines of Python)

    overwrite : replace existing files of these names that are not known to be sample corpora

    Raises DataError where this Python's library is not there as source, or `folder` is a file;
    SettingsError where a file exists that may not be replaced.
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
    tables: dict[str, dict[str, list[object]]] = {
        "docs.parquet": {
            name: [getattr(document, name) for document in documents]
            for name in Document.__dataclass_fields__
        },
        "queries.parquet": {
            "query_id": list(queries),
            "text": [summary(document.text) for document in queries.values()],
        },
        "qrels.parquet": {
            "query_id": list(queries),
            "doc_id": [document.id for document in queries.values()],
            "rel": [1] * len(queries),
        },
    }
    for name, rows in (
        ("labelled", labelled(documents)),
        ("tagged", tagged_lines(modules)),
    ):
        columns = ("label", "text") if name == "labelled" else ("tokens", "tags")
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
        tree = _parse(path)
        if tree is None:
            continue
        for found in _documents(module, tree):
            documents.setdefault(found.id, found)
    return list(documents.values())


def known_item_queries(documents: list[Document]) -> dict[str, Document]:
    """Queries by id ("q001", …), each with the one document that it is a summary line of.

    No other document shares half of the query, its words weighed by their rarity (idf), and the
    answers are not long, so that a working search engine puts the answer first.
    """
    words = [frozenset(_words(document.text)) for document in documents]
    holders: dict[str, list[int]] = {}
    for i, held in enumerate(words):
        for word in held:
            holders.setdefault(word, []).append(i)
    chosen: list[Document] = []
    for i, document in enumerate(documents):
        if len(_words(document.text)) > LONGEST_ANSWER:
            continue
        asked = set(_words(summary(document.text)))
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
    """(top-level package, docstring) for the packages with enough documents to be learnt."""
    packages = [document.id.partition(".")[0] for document in documents]
    sizes = Counter(packages)
    return [
        (package, document.text)
        for package, document in zip(packages, documents, strict=True)
        if sizes[package] >= LABEL_ROWS
    ]


def tagged_lines(modules: dict[str, Path]) -> list[tuple[list[str], list[str]]]:
    """(tokens, tags) of logical lines of Python source, without repeated ones.

    A token is a KEYWORD, OP, NUMBER, STRING or COMMENT, or a name by its part in the line:
    DEFINITION (after def or class), CALL (before a parenthesis), ATTRIBUTE (after a dot),
    ARGUMENT (of a keyword or with a default), IMPORT (on such a line) or else NAME. So
    what a name is can only be told from both of its sides.
    """
    lines: dict[tuple[str, ...], list[str]] = {}
    for path in _spread(list(modules.values()), 80):
        for tokens, tags in _tag_file(path):
            lines.setdefault(tuple(tokens), tags)
    return [(list(tokens), tags) for tokens, tags in _spread(list(lines.items()), TAGGED_LINES)]


def summary(text: str) -> str:
    """The first line of a docstring."""
    return text.partition("\n")[0].strip()


def _documents(module: str, tree: ast.Module) -> Iterator[Document]:
    text = _docstring(tree)
    if text:
        yield Document(module, module, "module", module, text)
    yield from _members(module, "", tree.body)


def _members(module: str, owner: str, body: list[ast.stmt]) -> Iterator[Document]:
    for node in _definitions(body):
        if node.name.startswith("_"):
            continue
        name = f"{owner}.{node.name}" if owner else node.name
        is_class = isinstance(node, ast.ClassDef)
        text = _docstring(node)
        if text:
            kind = "class" if is_class else "method" if owner else "function"
            yield Document(f"{module}.{name}", module, kind, _title(name, node), text)
        if is_class:
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


def _title(name: str, node: Definition) -> str:
    if isinstance(node, ast.ClassDef):
        return name
    return f"{name}({ast.unparse(node.args)})"


def _parse(path: Path) -> ast.Module | None:
    """The file's syntax tree; None for the few files that are broken on purpose."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library's own strings
            return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return None


def _docstring(node: Definition | ast.Module) -> str:
    # a docstring may write a lone surrogate as an escape, which no UTF-8 file can hold
    return (ast.get_docstring(node) or "").encode("utf-8", "replace").decode()


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _spread(values: list[T], most: int) -> list[T]:
    """At most `most` of the values, evenly spaced, in order."""
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
    except (SyntaxError, tokenize.TokenError):  # a file broken on purpose: its lines so far
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
        if token.type == tokenize.OP:
            tags.append("OP")
        elif token.type == tokenize.NUMBER:
            tags.append("NUMBER")
        elif token.type == tokenize.COMMENT:
            tags.append("COMMENT")
        elif token.type != tokenize.NAME:
            tags.append("STRING")  # f-strings come in several parts since Python 3.12
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
