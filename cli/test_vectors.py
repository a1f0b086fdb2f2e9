"""fastseq test-vectors: how good word vectors are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    Common,
    common_options,
    example,
    format_option,
    pass_common,
    skip_bad_lines_option,
)
from .output import write_json, write_table


@click.command(
    "test-vectors",
    epilog=example(
        "fastseq test-vectors vectors --similarity wordsim353.tsv --analogies questions-words.txt",
        "fastseq test-vectors vectors --analogies analogies.parquet --most 30000 --format json",
    ),
)
@click.argument("vectors", type=click.Path(path_type=Path))
@click.option(
    "--similarity",
    "pairs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    multiple=True,
    help="Pairs that people scored: Parquet (word1, word2, score), TSV or CSV; may be repeated.",
)
@click.option(
    "--analogies",
    "questions",
    type=click.Path(path_type=Path),
    metavar="FILE",
    multiple=True,
    help="Analogies: Parquet (section, a, b, c, d) or the form of Google's questions-words.txt; "
    "may be repeated.",
)
@click.option(
    "--most",
    default=300_000,
    show_default=True,
    metavar="N",
    help="Only the N most frequent words are known, and are answers.",
)
@click.option(
    "--method",
    type=click.Choice(["add", "mul"]),
    default="add",
    show_default=True,
    help="How analogies are answered: 3CosAdd or 3CosMul.",
)
@click.option("--match-case", is_flag=True, help="Tell Paris from paris.")
@format_option("table", "json", default="table", help="Form of the answer.")
@skip_bad_lines_option
@common_options
@pass_common
def command(
    common: Common,
    vectors: Path,
    pairs: tuple[Path, ...],
    questions: tuple[Path, ...],
    most: int,
    method: str,
    match_case: bool,
    form: str,
    skip_bad_lines: bool,
) -> None:
    """Measure word vectors on similarities and analogies.

    Of pairs: Spearman's rank correlation of cosines with people's scores, and the share of pairs
    with a word that is not known. Of analogies: the share answered right in each section and in
    all, of the questions whose four words are known. JSON is {"similarity": [{file, spearman,
    pairs, used, out_of_vocabulary}], "analogies": [{file, accuracy, semantic, syntactic, used,
    skipped, sections}]}.
    """
    if not pairs and not questions:
        raise click.UsageError("give at least one --similarity FILE or --analogies FILE")
    from fastseq.settings import whole
    from fastseq.vectors import evaluation
    from fastseq.vectors.eval_datasets import read_pairs, read_questions
    from fastseq.vectors.words import WordVectors

    whole("most", most, 1)
    scored = [(path, read_pairs(path)) for path in pairs]
    asked = [(path, read_questions(path)) for path in questions]
    common.announce_compilation()
    known = WordVectors.load(vectors, common.threads, skip_bad_lines).most_frequent(most)
    similarities, analogies = [], []
    for path, each in scored:
        alike = evaluation.similarity(known, each, most, not match_case)
        similarities.append({"file": str(path), **alike.to_dict()})
    for path, some in asked:
        answered = evaluation.analogies(
            known, some, most, method, not match_case, threads=common.threads
        )
        analogies.append((path, answered))
    if form == "json":
        of_files = [{"file": str(path), **found.to_dict()} for path, found in analogies]
        write_json({"similarity": similarities, "analogies": of_files})
        return
    if similarities:
        write_table(list(similarities[0]), [list(row.values()) for row in similarities])
    for number, (path, found) in enumerate(analogies):
        if similarities or number:
            click.echo()
        _write_sections(path, found)


def _write_sections(path: Path, found: Any) -> None:
    """A line for each section, then those of all."""
    sums = [found.semantic, found.syntactic, found.total]
    write_table(
        [str(path), "accuracy", "correct", "used", "skipped"],
        [(s.name, s.accuracy, s.correct, s.used, s.skipped) for s in [*found.sections, *sums]],
    )
