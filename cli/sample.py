"""fastseq sample: small corpora made from the standard library."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .options import FILE, Common, command
from .output import write_table


@command("sample", "fastseq sample demo")
@click.argument("folder", metavar="DIR", type=FILE)
@options.overwrite
def sample(common: Common, folder: Path, overwrite: bool) -> None:
    """Write sample corpora made from Python's own documentation.

    The source of this Python's standard library is read (never imported): one document for each
    public module, class, function and method with a docstring. DIR is created if missing, and
    receives docs.parquet (id, module, kind, title, text), queries.parquet with qrels.parquet
    (queries with their known answers), labelled.parquet and labelled_test.parquet (label, text),
    tagged.parquet and tagged_test.parquet (tokens, tags). The same Python gives the same files.
    """
    from fastseq.samples import write_samples

    written = write_samples(folder, overwrite)
    if not common.quiet:
        write_table(["file", "rows"], [(str(folder / name), n) for name, n in written.items()])
