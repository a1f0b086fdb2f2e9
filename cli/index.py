"""fastseq index: Parquet, JSON Lines or CSV to a searchable index."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from fastseq.errors import FormatError, SettingsError
from fastseq.text.settings import INDEX_TOKENIZER

from . import options, parameters
from .encoders import load_encoder
from .options import Common, command
from .output import write_pairs
from .progress import progress


@command(
    "index",
    "fastseq index docs.parquet",
    "fastseq index 'wiki/*.parquet' -o wiki --language english --store title",
    "fastseq index docs.parquet --id-column url --text-column title --text-column body",
    "fastseq index scifact/corpus.jsonl --text-column title --text-column text",
    "fastseq index docs.parquet --dense all-MiniLM-L6-v2",
    "zcat docs.csv.gz | fastseq index - -o docs",
)
@options.corpus
@options.folder("index", "-o", "--output", help="Folder of the index.")
@options.overwrite
@options.id_column
@options.text_column
@click.option(
    "--store",
    metavar="C",
    multiple=True,
    help="Column to store with the results; may be repeated; none stores the id alone.  "
    "[default: all]",
)
@click.option(
    "--field",
    "fields",
    metavar="C",
    multiple=True,
    help="Text column with an inverted index of its own, in addition to the text's; may be "
    "repeated. Without --text-column the text is these columns, joined.",
)
@click.option(
    "--positions/--no-positions",
    default=True,
    show_default=True,
    help="Store the positions of words, for phrases; never those of n-grams.",
)
@click.option(
    "--impacts",
    metavar="C",
    help="Instead of text: a column of terms with weights, as of learned-sparse models: a map, or "
    "lists of {term, weight}. The index is searched by the dot product.",
)
@click.option(
    "--reorder",
    is_flag=True,
    help="Search the documents in an order in which similar ones are close: faster, with the same "
    "results.",
)
@options.file(
    "--dense",
    metavar="MODEL",
    help="Encoder, a checkpoint of BERT, with which each document gets a vector, for search "
    "--dense and --hybrid.",
)
@click.option(
    "--dense-column",
    metavar="C",
    help="Instead of --dense: a column of vectors, lists of numbers.",
)
@options.choice(
    "--dense-dtype",
    of=("float32", "float16", "int8"),
    default="float32",
    help="Type of the vectors' numbers on disk; int8 is float32 with bytes beside them, by which "
    "the same hits are found faster.",
)
@options.choice(
    "--dense-index",
    of=("exact", "usearch"),
    default="exact",
    help="usearch adds a graph of the vectors to each segment of 100,000 and more, by which a "
    "search is approximate and faster; it needs pip install 'fastseq[usearch]'.",
)
@parameters.analysis_options(INDEX_TOKENIZER)
@options.memory
def index(
    common: Common,
    corpus: tuple[Path, ...],
    index_path: Path,
    overwrite: bool,
    id_column: str | None,
    text_columns: tuple[str, ...],
    store: tuple[str, ...],
    fields: tuple[str, ...],
    positions: bool,
    impacts: str | None,
    reorder: bool,
    dense: Path | None,
    dense_column: str | None,
    dense_dtype: str,
    dense_index: str,
    memory: str,
    **analysis: Any,
) -> None:
    """Index Parquet, JSON Lines or CSV: files, folders or globs.

    Every row of CORPUS becomes a document. Several text columns are joined by a space; a null
    text is an empty document. The index can be searched with any ranking model.

    A file is Parquet, JSON Lines (.jsonl, .ndjson, or .json with an object a line), CSV or TSV with
    a header; text may be compressed (.gz, .zst). CORPUS - reads standard input, in any of these
    formats or as an Arrow stream; s3://, gs://, hdfs:// and file:// URIs name files, folders and
    globs of other file systems.

    Folders are searched for these suffixes at any depth, except names that begin with a dot or an
    underscore; folders named KEY=VALUE (Hive partitions) become columns. A column that only some
    files have is null for the others.
    """
    analyzer = parameters.analyzer_of(**analysis)
    if impacts is not None:
        usual = parameters.analyzer_of(None, tokenizer=INDEX_TOKENIZER)
        given = {
            "--text-column": text_columns, "--field": fields,
            "options of the analysis": analyzer != usual, "--dense": dense,
        }  # fmt: skip
        for option, value in given.items():
            if value:
                raise click.UsageError(f"--impacts cannot be combined with {option}")
    if dense is not None and dense_column is not None:
        raise click.UsageError("--dense cannot be combined with --dense-column")
    if dense_index == "usearch" and dense is None and dense_column is None:
        raise click.UsageError("--dense-index usearch requires --dense or --dense-column")
    if "none" in store and len(store) > 1:
        raise click.UsageError("--store none stores no column: leave out the others")
    from fastseq import Index
    from fastseq.settings import format_size, parse_size

    budget = parse_size(memory)
    if not overwrite:
        _refuse_existing(index_path, corpus)
    common.announce_compilation()
    encoder = None if dense is None else load_encoder(common, dense)
    with progress(common) as report:
        built = Index.build(
            list(corpus),
            index_path,
            id_column=id_column,
            text_columns=list(text_columns) or None,
            store=[] if store == ("none",) else list(store) or None,
            analyzer=analyzer if impacts is None else None,
            memory=budget,
            threads=common.threads,
            overwrite=overwrite,
            progress=report,
            positions=positions,
            fields=list(fields) or None,
            impacts=impacts,
            reorder=reorder,
            dense=encoder,
            dense_column=dense_column,
            dense_dtype=dense_dtype,
            dense_index=dense_index,
        )
    if common.quiet:
        return
    summary, content = built.summary, built.info()
    common.commit = f"the index was written: commit {content['statistics']['commit']}"
    seconds = max(float(summary["seconds"]), 1e-9)
    counts = ("documents", "terms", "postings", "null_texts")
    vectors = []
    if built.dense is not None:
        vectors = [("dimensions", f"{built.dense['size']:,}")]
    write_pairs(
        [
            ("index", index_path),
            *((name.replace("_", " "), f"{summary[name]:,}") for name in counts),
            *vectors,
            ("size", format_size(content["bytes"])),
            ("time", f"{seconds:.2f} s ({summary['documents'] / seconds:,.0f} documents/s)"),
        ]
    )


def _refuse_existing(path: Path, corpus: Sequence[Path]) -> None:
    """Raise SettingsError for an index that could be changed instead, and where it would be part of
    the corpus; other folders are left to the library."""
    from fastseq.store import folder
    from fastseq.store.outputs import check_folder

    check_folder(path, list(corpus))
    with suppress(FormatError):
        found = folder.describe(path)
        if found["kind"] == "index" and found["settings"].get("id_column"):
            raise SettingsError(
                f"{path} already exists: fastseq add adds documents to it, --overwrite replaces it"
            )
