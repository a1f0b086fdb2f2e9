"""Word vectors in every format: folders of fastseq, models of fastText, and the text, binary and
Parquet files that store/vector_files.py reads."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import BinaryIO

import numpy as np

from fastseq.errors import FormatError
from fastseq.settings import thread_count
from fastseq.store.vector_files import WantedVectors, read_vector_file
from fastseq.text.subwords import Subwords
from fastseq.types import Float32
from fastseq.vectors.fasttext_bin import MAGIC, FastTextStream
from fastseq.vectors.folder import check_finite, read_vectors
from fastseq.vectors.subword_vectors import SubwordVectors, with_ngrams


def read_word_vectors(
    path: str | os.PathLike[str],
    wanted: Collection[str] | None = None,
    threads: int | None = None,
    make_unknown: bool = False,
    skip_bad_lines: bool = False,
) -> tuple[list[str], Float32]:
    """Return the words of a file and their vectors, in the file's order.

    Of duplicate words the first is used. Bytes that are not UTF-8 (word2vec cuts long words in the
    middle of a character) become U+FFFD. A word of a text file may contain spaces, as some of
    GloVe's do, if the part before the numbers is no number itself. A gzip file may have any name.
    From a model of fastText come the words of its dictionary (no labels), each with the mean of its
    own vector and those of its character n-grams.

    path : text with or without a first line of "words dimensions", word2vec binary, fastText's
        .bin, or Parquet with the columns word (strings) and vector (lists of numbers); or a
        folder of vectors (vectors/folder.py)
    wanted : the words to keep; None: all. The numbers of the others are not read
    threads : for text; None: all cores
    make_unknown : where there are vectors of character n-grams (fastText's models, folders of
        FastText), wanted words that are unknown, also in lower case, are appended with the mean of
        their n-grams' vectors
    skip_bad_lines : skip lines of text (and entries of word2vec's binary form) without a word, with
        another number of numbers than most, or with what is no finite number; a FastseqWarning
        counts them and names the first

    Returns n different words and their vectors, float32[n, d]; n may be 0.

    Raises DataError, naming the line (or entry, or row) from 1, for a file that is missing, empty,
    cut short or of another kind, a vector of another length than the first, or what is no finite
    float32; FormatError for a folder without word vectors or with damaged ones; SettingsError for
    `threads` below 1.
    """
    if os.path.isdir(path):
        thread_count(threads)
        return _read_folder(path, wanted, make_unknown)

    def read(file: BinaryIO, kept: WantedVectors) -> None:
        _read_fasttext(file, kept, make_unknown)

    return read_vector_file(path, wanted, threads, {MAGIC: read}, skip_bad_lines)


def _read_folder(
    path: str | os.PathLike[str], wanted: Collection[str] | None, make_unknown: bool
) -> tuple[list[str], Float32]:
    content = read_vectors(os.fspath(path))
    words, chosen = content.words, None if wanted is None else frozenset(wanted)
    rows = [row for row, word in enumerate(words) if chosen is None or word in chosen]
    found, vectors = [words[row] for row in rows], np.array(content.vectors[rows], np.float32)
    check_finite(os.fspath(path), vectors)
    if chosen is None or not make_unknown:
        return found, vectors
    try:
        subwords = SubwordVectors.from_folder(content.arrays, content.settings)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    if subwords is None:
        return found, vectors
    others = with_ngrams(_missing(chosen, found), subwords.grams)
    made = subwords.vectors_of(others)
    check_finite(os.fspath(path), made)
    return found + others, np.concatenate([vectors, made])


def _read_fasttext(file: BinaryIO, kept: WantedVectors, make_unknown: bool) -> None:
    kept.unit = "word"
    stream = FastTextStream(file, kept.path)
    settings = stream.settings
    kept.dimensions = settings.dimensions
    words = stream.entries[: stream.num_words]
    taken = [number for number, word in enumerate(words) if kept.takes(word, number + 1)]
    others: list[str] = []
    if make_unknown and kept.wanted is not None:
        grams = Subwords(*settings.ngrams, settings.buckets)
        others = with_ngrams(_missing(kept.wanted, kept.words), grams)
    kept.words |= dict.fromkeys(others)
    for numbers, vectors in stream.means(taken, [word.encode() for word in others]):
        kept.add(vectors.reshape(-1), [number + 1 for number in numbers])


def _missing(wanted: Collection[str], found: Collection[str]) -> list[str]:
    """Wanted words that are not found, not in lower case either."""
    known = frozenset(found)
    return sorted(w for w in wanted if w not in known and w.lower() not in known)
