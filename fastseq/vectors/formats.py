"""Word vectors in every format: folders of fastseq, models of fastText, and the text, binary and
Parquet files that store/vectors.py reads."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import BinaryIO

import numpy as np

from fastseq.errors import FormatError
from fastseq.settings import thread_count
from fastseq.store.vector_files import WantedVectors, read_vector_file
from fastseq.types import Float32, Int32, Texts
from fastseq.vectors.checks import check_finite
from fastseq.vectors.fasttext_bin import MAGIC, FastTextStream
from fastseq.vectors.fasttext_model import means
from fastseq.vectors.folder import VectorsContent, read_vectors


def read_word_vectors(
    path: str | os.PathLike[str],
    wanted: Collection[str] | None = None,
    threads: int | None = None,
    make_unknown: bool = False,
    skip_bad_lines: bool = False,
) -> tuple[list[str], Float32]:
    """The words of a file and their vectors, in the file's order.

    Of a word that comes twice the first vector is taken. Bytes that are not UTF-8 (word2vec cuts
    long words in the middle of a character) become U+FFFD. A word of a text file may hold spaces,
    as some of GloVe's do, if the piece before the numbers is not a number itself. A gzip file may
    have any name. Of a model of fastText come the words of its dictionary (no labels), each with
    the mean of its own vector and those of its character n-grams.

    Parameters
    ----------
    path : text with or without a first line of "words dimensions", word2vec binary, fastText's
        .bin, or Parquet with the columns word (strings) and vector (lists of numbers); or a
        folder of vectors (vectors/folder.py)
    wanted : the words to keep; None: all. The numbers of the others are not read
    threads : for text; None: every core
    make_unknown : where there are vectors of character n-grams (fastText's models, folders of
        FastText), wanted words that are not among the others, nor are in lower case, come after
        them, each with the mean of its n-grams'
    skip_bad_lines : skip lines of text (and entries of word2vec's binary form) that have no word,
        another number of numbers than most, or what is no finite number; a FastseqWarning counts
        them and names the first

    Returns
    -------
    words : n different ones
    vectors : float32[n, d]; float32[0, d] where none of the wanted is there

    Raises
    ------
    DataError
        The file is missing, empty, cut short or of another kind, or a vector is of another length
        than the first, or holds what is no finite float32; the message names the line (or entry,
        or row), counted from 1.
    FormatError
        A folder that holds no word vectors, or damaged ones.
    SettingsError
        `threads` is less than 1.
    """
    if os.path.isdir(path):
        thread_count(threads)
        return _of_folder(path, wanted, make_unknown)

    def read(file: BinaryIO, kept: WantedVectors) -> None:
        _read_fasttext(file, kept, make_unknown)

    return read_vector_file(path, wanted, threads, {MAGIC: read}, skip_bad_lines)


def _of_folder(
    path: str | os.PathLike[str], wanted: Collection[str] | None, make_unknown: bool
) -> tuple[list[str], Float32]:
    """What is wanted of a folder of vectors."""
    content = read_vectors(os.fspath(path))
    words, chosen = content.words, None if wanted is None else frozenset(wanted)
    rows = [row for row, word in enumerate(words) if chosen is None or word in chosen]
    found, vectors = [words[row] for row in rows], np.array(content.vectors[rows], np.float32)
    check_finite(os.fspath(path), vectors)
    if chosen is None or not make_unknown or "subwords" not in content.settings:
        return found, vectors
    try:
        others, made = _of_pieces(content, _missing(chosen, found))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"{path}: vectors of n-grams are damaged: {error}") from error
    check_finite(os.fspath(path), made)
    return found + others, np.concatenate([vectors, made])


def _of_pieces(content: VectorsContent, words: list[str]) -> tuple[list[str], Float32]:
    """Those of the words that have n-grams, and the mean of their vectors, float32[n, d]; a bucket
    without a vector counts as zeros."""
    from fastseq.kernels.text.ngrams import bucket_ids

    grams, table = content.settings["subwords"], np.array(content.arrays["subwords"], np.float32)
    words = _with_grams(words, grams["low"], grams["high"])
    texts = Texts.from_strings(words)
    ids, ends = bucket_ids(texts.data, texts.offsets, grams["low"], grams["high"], grams["buckets"])
    if "buckets" in content.arrays:
        rows = np.full(grams["buckets"], len(table), np.int32)
        rows[content.arrays["buckets"]] = np.arange(len(table), dtype=np.int32)
        ids = rows[ids]
        table = np.concatenate([table, np.zeros((1, table.shape[1]), np.float32)])
    own: Int32 = np.full(len(words), -1, np.int32)
    return words, means(table[:0], own, table, ids, ends)


def _read_fasttext(file: BinaryIO, kept: WantedVectors, make_unknown: bool) -> None:
    """The words of a model of fastText, and vectors made of n-grams for the others wanted."""
    kept.unit = "word"
    stream = FastTextStream(file, kept.path)
    kept.dimensions = stream.settings.dimensions
    words = stream.entries[: stream.num_words]
    taken = [number for number, word in enumerate(words) if kept.takes(word, number + 1)]
    others: list[str] = []
    if make_unknown and kept.wanted is not None:
        others = _with_grams(_missing(kept.wanted, kept.words), *stream.settings.ngrams)
    kept.words |= dict.fromkeys(others)
    for numbers, vectors in stream.means(taken, [word.encode() for word in others]):
        kept.add(vectors.reshape(-1), [number + 1 for number in numbers])


def _missing(wanted: Collection[str], found: Collection[str]) -> list[str]:
    """Wanted words that are not found, and not in lower case either."""
    known = frozenset(found)
    return sorted(w for w in wanted if w not in known and w.lower() not in known)


def _with_grams(words: list[str], low: int, high: int) -> list[str]:
    """Those of the words that have an n-gram of low to high characters."""
    from fastseq.kernels.text.ngrams import bucket_ids

    texts = Texts.from_strings(words)
    _, ends = bucket_ids(texts.data, texts.offsets, low, high, 1)
    return [word for word, many in zip(words, np.diff(ends).tolist(), strict=True) if many]
