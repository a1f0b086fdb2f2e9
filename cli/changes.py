"""fastseq add, delete, compact: changes of an index, each in one commit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastseq.errors import DataError, located, quoted

from . import options
from .encoders import document_encoder
from .options import Common, command
from .output import write_pairs
from .progress import progress

if TYPE_CHECKING:
    from fastseq.index.changes import IndexWriter
    from fastseq.search.index import Index
    from fastseq.store.id_files import FileIds

_MOST_UNKNOWN = 8  # unknown ids that are named

_index = options.folder("index", "-i", "--index", help="Folder of the index.")
_wait = click.option(
    "--wait",
    type=float,
    metavar="SECONDS",
    default=0,
    show_default=True,
    help="Seconds to wait while another process writes to the index.",
)


@command(
    "add",
    "fastseq add new.parquet",
    "fastseq add 'news/2026-*.parquet' -i news/index --wait 60",
    "zcat today.jsonl.gz | fastseq add -",
)
@options.corpus
@_index
@options.file(
    "--dense",
    metavar="MODEL",
    help="Folder of the encoder that the index was built with.  [default: as it was then]",
)
@options.memory
@_wait
def add(
    common: Common,
    corpus: tuple[Path, ...],
    index_path: Path,
    dense: Path | None,
    memory: str,
    wait: float,
) -> None:
    """Add documents to an index.

    Every row of CORPUS becomes a document; one with a known id replaces the document with that
    id. The index's own settings apply: its columns of ids and text, its analysis, and its stored
    columns, which are null where CORPUS lacks them. CORPUS is Parquet, JSON Lines or CSV, as for
    fastseq index; - reads standard input.

    All documents are added in one commit: readers see all of them or none.
    """
    from fastseq import Index

    opened = Index.open(index_path)
    encoder = document_encoder(common, opened, dense)
    with _change(common, index_path, wait, memory, opened, encoder) as (_, writer, summary):
        writer.add(list(corpus))
        summary += [(name, writer.summary[name]) for name in ("added", "replaced", "null_texts")]


@command(
    "delete",
    "fastseq delete doc1 doc2",
    "fastseq delete --ids old.txt -i news/index",
    "grep ^tmp- names.txt | fastseq delete --ids -",
    "fastseq delete --where \"year < 1990 or lang is null\"",
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@options.file(
    "--ids",
    "file",
    help="Ids to delete: one per line, or a column of Parquet, JSON Lines or CSV: the id column of "
    "the index, else id, doc_id or _id. Text may be compressed; - reads standard input.",
)
@click.option(
    "--where",
    metavar="FILTER",
    help="Condition on stored columns, as of search --filter: all documents that meet it.",
)
@_index
@options.memory
@_wait
def delete(
    common: Common,
    ids: tuple[str, ...],
    file: Path | None,
    where: str | None,
    index_path: Path,
    memory: str,
    wait: float,
) -> None:
    """Delete documents of an index by their IDs, or all that meet a condition.

    IDs are written as search results show them. Ids that no document has are counted, and some of
    them are named on standard error; they are no error. Put -- before IDs that begin with a
    hyphen.

    All documents are deleted in one commit: readers see all of them or none. A segment of the
    index of which more than a third is deleted is rewritten, within --memory.
    """
    if bool(ids) + (file is not None) + (where is not None) != 1:
        raise click.UsageError("give either IDs, --ids FILE or --where FILTER")
    from fastseq import Index

    common.announce_compilation()  # CSV is read with kernels
    opened = Index.open(index_path)
    if where is not None:
        with _change(common, index_path, wait, memory, opened) as (_, writer, summary):
            writer.delete(where=where)
            summary.append(("deleted", writer.summary["deleted"]))
        return
    read = None if file is None else _read_ids(file, opened)
    wanted: Any = _utf8(ids) if read is None else read.values
    with _change(common, index_path, wait, memory, opened) as (index, writer, summary):
        with nullcontext() if read is None else located(read.where):
            writer.delete(wanted)
        unknown = writer.summary["unknown"]
        summary += [("deleted", writer.summary["deleted"]), ("unknown ids", unknown)]
        if unknown and not common.quiet:
            index.refresh()  # to the commit that the writer changes
            _name_unknown(common, index.unknown_ids(wanted))


@command(
    "compact",
    "fastseq compact",
    "fastseq compact -i news/index --memory 256MB",
    "fastseq compact --reorder",
)
@_index
@click.option(
    "--reorder",
    is_flag=True,
    help="Search the documents in an order in which similar ones are close: faster, with the same "
    "results. An index that is reordered stays so.",
)
@options.memory
@_wait
def compact(common: Common, index_path: Path, reorder: bool, memory: str, wait: float) -> None:
    """Merge the segments of an index into one.

    Deleted documents are removed from disk. Search results do not change; searches are faster
    than with many segments. Small segments are also merged by fastseq add, so an index needs no
    regular compaction.
    """
    with _change(common, index_path, wait, memory) as (index, writer, summary):
        index.refresh()  # to the commit that the writer changes
        deleted = index.summary.get("deleted", 0)
        writer.compact(reorder)
        summary += [("merged segments", writer.summary["merged"]), ("removed documents", deleted)]


@contextmanager
def _change(
    common: Common, path: Path, wait: float, memory: str, index: Index | None = None,
    encoder: Any = None,
) -> Iterator[tuple[Index, IndexWriter, list[tuple[str, int]]]]:  # fmt: skip
    """(index, writer, summary) for one commit. Prints the counts that the block adds to the
    summary, and then the numbers of the index, which may be open already."""
    from fastseq import Index
    from fastseq.settings import format_size, parse_size

    budget = parse_size(memory)
    common.announce_compilation()
    started = time.perf_counter()
    counts: list[tuple[str, int]] = []
    index = index or Index.open(path)
    with (
        progress(common) as report,
        index.writer(
            memory=budget, threads=common.threads, wait=wait, progress=report, dense=encoder
        ) as writer,
    ):
        yield index, writer, counts
    if common.quiet:
        return
    content = index.info()
    if any(writer.summary[name] for name in ("added", "deleted", "merged")):
        common.commit = f"the index was changed: commit {content['statistics']['commit']}"
    counts += [
        ("documents", len(index)),
        ("segments", len(content["statistics"].get("segments", ["of format 1"]))),
    ]
    write_pairs(
        [
            ("index", path),
            *((name.replace("_", " "), f"{count:,}") for name, count in counts),
            ("size", format_size(content["bytes"])),
            ("time", f"{time.perf_counter() - started:.2f} s"),
        ]
    )


def _read_ids(file: Path, index: Index) -> FileIds:
    """The ids in a file, or in standard input for "-"."""
    from fastseq.store.id_files import read_ids

    return read_ids(file, index.info()["settings"].get("id_column"))


def _utf8(ids: Iterable[str]) -> list[str]:
    """The ids of the command line. Raises DataError for one that is not UTF-8."""
    for value in ids:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(f"the id {quoted(value)} is not UTF-8 text") from None
    return list(ids)


def _name_unknown(common: Common, ids: list[Any]) -> None:
    more = f" and {len(ids) - _MOST_UNKNOWN:,} more" if len(ids) > _MOST_UNKNOWN else ""
    shown = ", ".join(map(quoted, ids[:_MOST_UNKNOWN]))
    common.notify(f"no document has the id{'s' * (len(ids) > 1)} {shown}{more}")
