"""fastseq neighbors, analogy, test-vectors and export: the use of word vectors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastseq.errors import SettingsError
from fastseq.settings import whole

from . import options
from .options import FILE, Common, command
from .output import write_json, write_rows, write_table

if TYPE_CHECKING:
    from fastseq.vectors.words import WordVectors

FORMS = ("table", "json", "jsonl", "tsv")
METHODS = ("add", "mul")


@command(
    "neighbors",
    "fastseq neighbors vectors cat",
    "fastseq neighbors vectors cat dog -k 3 --format json",
    "fastseq neighbors vectors cat violin paris --plot words.png",
    "fastseq neighbors GoogleNews-vectors-negative300.bin.gz Paris --format tsv",
)
@options.vectors
@click.argument("words", metavar="WORD...", nargs=-1, required=True)
@options.number("-k", default=10, help="Nearest words per WORD.")
@options.file("--plot", help="Plot the words and their neighbours: .png, .svg or .pdf.")
@options.overwrite
@options.form(*FORMS)
@options.skip_bad_lines
def neighbors(
    common: Common,
    vectors: Path,
    words: tuple[str, ...],
    k: int,
    plot: Path | None,
    overwrite: bool,
    form: str,
    skip_bad_lines: bool,
) -> None:
    """Find the words nearest to each WORD, by the cosine of their vectors.

    VECTORS is a folder of word vectors, or a file: word2vec's text or binary format, the text
    format of GloVe or fastText, a fastText model (.bin, which has vectors for all words), or
    Parquet (word, vector). JSON is a list of {query, rank, word, score}. A WORD that is not in
    VECTORS is analyzed like the training text: with phrases, "new york" is new_york.
    """
    whole("k", k, 1)
    if plot is not None:
        from fastseq.vectors.plots import check_plot

        check_plot(plot, vectors, overwrite=overwrite)
    known = _load(common, vectors, skip_bad_lines)
    queries = [_as_trained(word, known) for word in words]
    found = known.neighbors_of_each(queries, k, threads=common.threads)
    rows = [
        (query, rank, word, score)
        for query, near in zip(queries, found, strict=True)
        for rank, (word, score) in enumerate(near, 1)
    ]
    if plot is not None:
        from fastseq.vectors.plots import word_map

        drawn = word_map(known, queries, plot, k, threads=common.threads, overwrite=overwrite)
        common.notify(f"{plot}: {drawn:,} words")
    for query in dict.fromkeys(q for q, near in zip(queries, found, strict=True) if not near):
        common.notify(f"{query}: no neighbours")
    # a table for one word does not repeat it
    first = int(len(words) == 1 and form == "table")
    write_rows(form, ("query", "rank", "word", "score")[first:], [row[first:] for row in rows])


@command(
    "contexts",
    "fastseq contexts all-MiniLM-L6-v2 bank 'a bank of the river' 'the bank lends' 'a river bank'",
    "fastseq contexts all-MiniLM-L6-v2 bank - --plot bank.png < sentences.txt",
)
@options.model
@click.argument("word")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@options.number("-k", default=3, help="Nearest occurrences of each.")
@options.file("--plot", help="Plot the vectors of the word: .png, .svg or .pdf.")
@options.overwrite
@options.form(*FORMS)
def contexts(
    common: Common,
    model_path: Path,
    word: str,
    texts: tuple[str, ...],
    k: int,
    plot: Path | None,
    overwrite: bool,
    form: str,
) -> None:
    """Compare the vectors that WORD has in several texts, by a checkpoint of BERT.

    MODEL is a folder as `fastseq embed` takes it. Each TEXT with WORD gives it a vector of its own,
    the mean of those of its word pieces; - reads texts from standard input, one a line. Printed are
    the other occurrences whose vectors have the largest cosine.
    """
    from fastseq.models.bert.occurrences import occurrences

    from .encoders import load_encoder

    whole("k", k, 1)
    if plot is not None:
        from fastseq.vectors.plots import check_plot

        check_plot(plot, overwrite=overwrite)
    given = list(texts)
    if given == ["-"]:
        lines = sys.stdin.buffer.read().decode("utf-8", "replace").splitlines()
        given = [line for line in lines if line.strip()]
    found = occurrences(load_encoder(common, model_path), word, given)
    cosines: Any = found.vectors @ found.vectors.T
    rows = []
    for own, scores in enumerate(cosines):
        order = (-scores).argsort(kind="stable").tolist()
        near = [other for other in order if other != own][:k]
        for rank, other in enumerate(near, 1):
            score = float(scores[other])
            rows.append((given[found.texts[own]], rank, given[found.texts[other]], score))
    if plot is not None:
        from fastseq.vectors.plots import text_map

        labels = [shortened(given[text]) for text in found.texts]
        text_map(found.vectors, labels, plot, f"{word}, in the plane of its vectors", overwrite)
        common.notify(f"{plot}: {len(labels):,} vectors")
    write_rows(form, ("text", "rank", "near", "score"), rows)


def shortened(text: str, most: int = 40) -> str:
    """A text on one line, cut to a number of characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


@command(
    "analogy",
    "fastseq analogy vectors man king woman",
    "fastseq analogy vectors athens greece oslo -k 1 --method mul --format json",
)
@options.vectors
@click.argument("a")
@click.argument("b")
@click.argument("c")
@options.number("-k", default=5, help="Number of answers.")
@options.choice(
    "--method",
    of=METHODS,
    default="add",
    help="add: nearest to B - A + C (3CosAdd); mul: by a product of cosines (3CosMul).",
)
@options.form(*FORMS)
@options.skip_bad_lines
def analogy(
    common: Common,
    vectors: Path,
    a: str,
    b: str,
    c: str,
    k: int,
    method: str,
    form: str,
    skip_bad_lines: bool,
) -> None:
    """Answer the question: A is to B as C is to what?

    VECTORS is a folder of word vectors, or a file as `fastseq neighbors` takes it. The three words
    are never answers. JSON is a list of {rank, word, score}: the cosine, or 3CosMul's product.
    """
    whole("k", k, 1)
    known = _load(common, vectors, skip_bad_lines)
    found = known.analogy(a, b, c, k, method, threads=common.threads)
    write_rows(form, ("rank", "word", "score"), [(n, *each) for n, each in enumerate(found, 1)])


@command(
    "test-vectors",
    "fastseq test-vectors vectors --similarity wordsim353.tsv --analogies questions-words.txt",
    "fastseq test-vectors vectors --analogies analogies.parquet --most 30000 --format json",
)
@options.vectors
@options.file(
    "--similarity",
    "pairs",
    multiple=True,
    help="Word pairs with human scores: Parquet (word1, word2, score), TSV or CSV; may be "
    "repeated.",
)
@options.file(
    "--analogies",
    "questions",
    multiple=True,
    help="Analogies: Parquet (section, a, b, c, d) or the format of Google's questions-words.txt; "
    "may be repeated.",
)
@options.number(
    "--most", default=300_000, help="Number of most frequent words that are known and are answers."
)
@options.choice("--method", of=METHODS, default="add", help="Analogies by 3CosAdd or 3CosMul.")
@click.option("--match-case", is_flag=True, help="Distinguish upper and lower case.")
@options.form("table", "json")
@options.skip_bad_lines
def test_vectors(
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
    """Evaluate word vectors on word similarities and analogies.

    For pairs: Spearman's rank correlation of cosines with the human scores, and the share of pairs
    with an unknown word. For analogies: the accuracy in each section and in all, over the
    questions whose four words are known. JSON is {"similarity": [{file, spearman, pairs, used,
    out_of_vocabulary}], "analogies": [{file, accuracy, semantic, syntactic, used, skipped,
    sections}]}.
    """
    if not pairs and not questions:
        raise click.UsageError("give at least one --similarity FILE or --analogies FILE")
    from fastseq.vectors import evaluation

    whole("most", most, 1)
    scored = [(path, evaluation.read_pairs(path)) for path in pairs]
    asked = [(path, evaluation.read_questions(path)) for path in questions]
    known = _load(common, vectors, skip_bad_lines).most_frequent(most)
    similarities = [
        {"file": str(path), **evaluation.similarity(known, each, most, not match_case).to_dict()}
        for path, each in scored
    ]
    threads = common.threads
    analogies = [
        (path, evaluation.analogies(known, each, most, method, not match_case, threads=threads))
        for path, each in asked
    ]
    if form == "json":
        answered = [{"file": str(path), **found.to_dict()} for path, found in analogies]
        write_json({"similarity": similarities, "analogies": answered})
        return
    if similarities:
        write_table(list(similarities[0]), [list(row.values()) for row in similarities])
    for number, (path, found) in enumerate(analogies):
        if similarities or number:
            click.echo()
        sections = [*found.sections, found.semantic, found.syntactic, found.total]
        write_table(
            [str(path), "accuracy", "correct", "used", "skipped"],
            [(s.name, s.accuracy, s.correct, s.used, s.skipped) for s in sections],
        )


@command(
    "export",
    "fastseq export vectors vectors.vec",
    "fastseq export vectors vectors.bin.gz",
    "fastseq export cc.en.300.bin words.parquet",
    "fastseq export vectors model.bin --format fasttext",
    "fastseq export tuned checkpoint",
)
@click.argument("source", metavar="SOURCE", type=FILE)
@click.argument("output", metavar="OUT", type=FILE)
@options.form(
    *("text", "binary", "parquet", "fasttext"),
    default=None,
    help="Of word vectors: word2vec's text or binary format, Parquet (word, vector), or a fastText "
    "model (.bin, with the vectors of n-grams).  [default: by the suffix: .vec and .txt, .bin as "
    "binary, .parquet; the first three also with .gz]",
)
@options.overwrite
@options.skip_bad_lines
def export(
    common: Common,
    source: Path,
    output: Path,
    form: str | None,
    overwrite: bool,
    skip_bad_lines: bool,
) -> None:
    """Write word vectors, or a model, for other programs.

    SOURCE is a folder of word vectors, a file of them in any format that fastseq reads, or a model
    folder of BERT or of FastText's classifier. OUT is a file; for a model of BERT a folder, a
    checkpoint in Hugging Face's format.
    """
    from fastseq.store.outputs import check_output, kind_of
    from fastseq.store.vector_files import KIND

    if kind_of(source) == "model":
        if form is not None:
            raise click.UsageError("--format is for word vectors")
        from fastseq.models import load

        model: Any = load(source, threads=common.threads)
        if not hasattr(model, "export"):
            raise SettingsError(f"{source}: a {model.kind} model has no format of other programs")
        model.export(output, overwrite)
        common.notify(f"{output}: the {model.kind} of {source}")
        return
    check_output(output, KIND, source, overwrite=overwrite)
    _load(common, source, skip_bad_lines).export(output, form, overwrite)


def _load(common: Common, vectors: Path, skip_bad_lines: bool) -> WordVectors:
    from fastseq.vectors.words import WordVectors

    common.announce_compilation()
    return WordVectors.load(vectors, common.threads, skip_bad_lines)


def _as_trained(word: str, known: WordVectors) -> str:
    """The word, or if it is unknown, what the analyzer and phrases of the training make of it."""
    from fastseq.errors import FormatError

    if word in known:
        return word
    try:
        made = known.words_of(word)
    except FormatError:  # analyzer tables of another version: the vectors are good all the same
        return word
    return made[0] if len(made) == 1 and made[0] in known else word
