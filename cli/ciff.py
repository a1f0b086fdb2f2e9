"""fastseq export-ciff and import-ciff: indexes for and from other search engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options, parameters
from .options import FILE, Common, command
from .output import write_pairs
from .progress import progress


@command(
    "export-ciff",
    "fastseq export-ciff .fastseq/index index.ciff",
    "fastseq export-ciff news/index news.ciff.gz",
)
@click.argument("index_path", metavar="INDEX", type=FILE)
@click.argument("output", metavar="FILE", type=FILE)
@options.overwrite
def export_ciff(common: Common, index_path: Path, output: Path, overwrite: bool) -> None:
    """Write INDEX to FILE in the Common Index File Format (CIFF), which other search engines read.

    FILE has the terms, sorted, with the documents and frequencies of each, and the id and length
    of each document. It is compressed where its name ends in .gz or .zst. Positions, fields and
    stored columns are left out.
    """
    from fastseq import Index
    from fastseq.settings import format_size

    common.announce_compilation()
    index = Index.open(index_path)
    with progress(common) as report:
        index.to_ciff(output, overwrite=overwrite, progress=report)
    if common.quiet:
        return
    size = format_size(output.stat().st_size) if output.is_file() else "unknown"
    write_pairs([
        ("file", output), ("documents", f"{len(index):,}"),
        ("terms", f"{index.summary['terms']:,}"), ("size", size),
    ])  # fmt: skip


@command(
    "import-ciff",
    "fastseq import-ciff robust04.ciff.gz robust04",
    "fastseq import-ciff news.ciff news/copy --language english",
)
@click.argument("file", metavar="FILE", type=FILE)
@click.argument("index_path", metavar="INDEX", type=FILE)
@options.overwrite
@parameters.analysis_options(None)
def import_ciff(
    common: Common, file: Path, index_path: Path, overwrite: bool, **analysis: Any
) -> None:
    """Make an index of FILE in the Common Index File Format (CIFF), which search engines exchange.

    INDEX is a new folder. Its terms, frequencies and lengths are those of FILE, and the ids its
    collection_docid. The options of analysis are those with which the terms were made: queries
    are analyzed with them. Without any of them, a query is terms between spaces, as they are.
    """
    given = any(value not in (None, ()) for value in analysis.values())
    analyzer = parameters.analyzer_of(**analysis) if given else None
    from fastseq import Index
    from fastseq.settings import format_size

    common.announce_compilation()
    with progress(common) as report:
        index = Index.from_ciff(
            file, index_path, analyzer=analyzer, overwrite=overwrite, progress=report
        )
    if common.quiet:
        return
    content = index.info()
    common.commit = f"the index was written: commit {content['statistics']['commit']}"
    counts = ("documents", "terms", "postings")
    write_pairs([
        ("index", index_path),
        *((name, f"{index.summary[name]:,}") for name in counts),
        ("size", format_size(content["bytes"])),
    ])  # fmt: skip
