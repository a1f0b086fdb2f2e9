"""fastseq index: Parquet to a searchable index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    Common,
    common_options,
    corpus_options,
    example,
    index_option,
    overwrite_option,
    pass_common,
)
from .output import write_pairs
from .parameters import Sectioned, analyzer_of, analyzer_options
from .progress import progress


@click.command(
    "index",
    cls=Sectioned,
    epilog=example(
        "fastseq index docs.parquet",
        "fastseq index 'wiki/*.parquet' -o wiki --language english --store title",
        "fastseq index docs.parquet --id-column url --text-column title --text-column body",
    ),
)
@click.argument("corpus", nargs=-1, required=True)
@index_option("-o", "--output", help="Folder of the index to write.")
@overwrite_option
@corpus_options
@click.option(
    "--store",
    metavar="C",
    multiple=True,
    help="Column to keep for results; may be repeated; none keeps the id alone.  [default: all]",
)
@analyzer_options
@click.option("--memory", default="1GB", show_default=True, help="Working memory, such as 256MB.")
@common_options
@pass_common
def command(
    common: Common,
    /,
    corpus: tuple[str, ...],
    index_path: Path,
    overwrite: bool,
    id_column: str | None,
    text_columns: tuple[str, ...],
    store: tuple[str, ...],
    memory: str,
    **analysis: Any,
) -> None:
    """Index Parquet files, folders or globs.

    Every row of CORPUS becomes a document. Several text columns are joined by a space; a null
    text is an empty document. The index can be searched with any ranking model.

    Folders are searched for files that end in .parquet at any depth, except those whose names
    begin with a dot or an underscore; folders named KEY=VALUE (Hive partitions) become columns. A
    column that only some files have is null for the others.
    """
    analyzer = analyzer_of(**analysis)
    if "none" in store and len(store) > 1:
        raise click.UsageError("--store none keeps no column and cannot be combined with another")
    from fastseq import Index
    from fastseq.settings import format_size, parse_size

    budget = parse_size(memory)
    common.announce_compilation()
    with progress(common) as report:
        index = Index.build(
            list(corpus),
            index_path,
            id_column=id_column,
            text_columns=list(text_columns) or None,
            store=[] if store == ("none",) else list(store) or None,
            analyzer=analyzer,
            memory=budget,
            threads=common.threads,
            overwrite=overwrite,
            progress=report,
        )
    if common.quiet:
        return
    made = index.summary
    seconds = max(float(made["seconds"]), 1e-9)
    write_pairs(
        [
            ("index", index_path),
            ("documents", f"{made['documents']:,}"),
            ("terms", f"{made['terms']:,}"),
            ("postings", f"{made['postings']:,}"),
            ("null texts", f"{made['null_texts']:,}"),
            ("size", format_size(index.info()["bytes"])),
            ("time", f"{seconds:.2f} s ({made['documents'] / seconds:,.0f} documents/s)"),
        ]
    )
