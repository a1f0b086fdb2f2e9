"""fastseq index: Parquet to a searchable index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Common, common_options, example, index_option, pass_common
from .output import write_pairs
from .progress import progress

if TYPE_CHECKING:
    from fastseq.text.analyzer import Analyzer


@click.command(
    "index",
    epilog=example(
        "fastseq index docs.parquet",
        "fastseq index 'wiki/*.parquet' -o wiki --language english --store title",
        "fastseq index docs.parquet --id-column url --text-column title --text-column body",
    ),
)
@click.argument("corpus", nargs=-1, required=True)
@index_option("-o", "--output", help="Folder of the index to write.")
@click.option("--overwrite", is_flag=True, help="Replace the index that stands there.")
@click.option("--id-column", metavar="C", help="Column of ids.  [default: id, doc_id or _id]")
@click.option(
    "--text-column",
    "text_columns",
    metavar="C",
    multiple=True,
    help="Column of text; may be repeated.  [default: text, else the only one of strings]",
)
@click.option(
    "--store",
    metavar="C",
    multiple=True,
    help="Column to keep for results; may be repeated; none keeps the id alone.  [default: all]",
)
@click.option(
    "--tokenizer",
    type=click.Choice(["word", "space", "char"]),
    default="word",
    show_default=True,
    help="What a token is: a word, what stands between spaces, or a character.",
)
@click.option(
    "--cjk",
    type=click.Choice(["bigrams", "none", "words"]),
    default="bigrams",
    show_default=True,
    help="Chinese, Japanese and Korean: overlapping pairs of characters, left as the tokenizer "
    "has them, or words (Chinese; needs fastseq[chinese]).",
)
@click.option("--language", metavar="L", help="The language's stop words and stemmer at once.")
@click.option("--stopwords", metavar="S", help="lucene, a language, or none.  [default: none]")
@click.option("--stemmer", metavar="L", help="A Snowball stemmer's language.  [default: none]")
@click.option("--fold-accents", is_flag=True, help="Take accents off: café becomes cafe.")
@click.option("--keep-case", is_flag=True, help="Tell Apple from apple.")
@click.option("--ngrams", metavar="1-2", help="Runs of so many words as terms.")
@click.option("--char-ngrams", metavar="3-5", help="Runs of so many characters of each word.")
@click.option("--min-length", type=int, metavar="N", help="Drop tokens of fewer characters.")
@click.option("--max-length", type=int, metavar="N", help="Drop tokens of more characters.")
@click.option(
    "--on-invalid",
    type=click.Choice(["error", "replace"]),
    default="error",
    show_default=True,
    help="What to do about text that is not UTF-8.",
)
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
    """
    if analysis["language"] and (analysis["stopwords"] or analysis["stemmer"]):
        raise click.UsageError("--language stands for --stopwords and --stemmer: give it alone")
    if "none" in store and len(store) > 1:
        raise click.UsageError("--store none keeps no column, so it cannot stand beside another")
    from fastseq import Index
    from fastseq.settings import format_size, parse_size

    budget = parse_size(memory)
    analyzer = _analyzer(**analysis)
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


def _analyzer(
    language: str | None,
    keep_case: bool,
    ngrams: str | None,
    char_ngrams: str | None,
    **settings: Any,
) -> Analyzer:
    from fastseq.settings import parse_range
    from fastseq.text.analyzer import Analyzer

    settings["lowercase"] = not keep_case
    settings["ngrams"] = parse_range(ngrams, "--ngrams") if ngrams else None
    settings["char_ngrams"] = parse_range(char_ngrams, "--char-ngrams") if char_ngrams else None
    given = {name: value for name, value in settings.items() if value is not None}
    return Analyzer.for_language(language, **given) if language else Analyzer(**given)
