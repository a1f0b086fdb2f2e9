"""Word vectors put to use: look up, compare, neighbours, analogies, documents."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.settings import one_of, whole
from fastseq.types import Float32, Int32, Int64, Texts
from fastseq.vectors.checks import check_counts, check_finite, check_words
from fastseq.vectors.nearest import Nearest, unit_rows
from fastseq.vectors.spelling import nearest_spellings

if TYPE_CHECKING:
    from fastseq.text.analyzer import Analyzer
    from fastseq.vectors.folder import VectorsContent
    from fastseq.vectors.phrases import PhraseTable

METHODS = ("add", "mul")
_SHOWN = 40  # characters of a word in a message

Neighbors = list[tuple[str, float]]


class Subwords(Protocol):
    """What makes vectors of words that were never seen, of their pieces.

    arrays, settings  what `WordVectors.save` writes beside the vectors, so that the pieces can be
                      loaded again: arrays of the folder, and its setting "subwords"
    """

    @property
    def arrays(self) -> Mapping[str, npt.NDArray[Any]]: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def vectors_of(self, words: list[str]) -> Float32:
        """float32[n, d]"""
        ...


class WordVectors:
    """Words and their vectors. Neither must be changed.

    Several threads may use one object.

    Parameters
    ----------
    words : V different strings; by falling frequency, where that is known
    vectors : numbers [V, d], kept as float32
    counts : how often each word was met in training, or None
    subwords : makes vectors of other words; None: they are unknown
    settings, statistics : what trained them said, kept with them
    output : numbers [V, d], the vectors of words as what is predicted, for training that goes on;
        None where nobody kept them
    phrases : what joined words of the training text, and joins those of others; None: nothing

    Attributes
    ----------
    words : list of str
    vectors : float32[V, d], C-contiguous
    counts : int64[V] or None

    Raises
    ------
    DataError
        Words that are empty, there twice or no valid Unicode; another number of words than of
        vectors or counts; no words or no dimensions; a number that is not finite.
    """

    def __init__(
        self,
        words: Sequence[str],
        vectors: npt.ArrayLike,
        counts: npt.ArrayLike | None = None,
        subwords: Subwords | None = None,
        settings: Mapping[str, Any] | None = None,
        statistics: Mapping[str, Any] | None = None,
        output: npt.ArrayLike | None = None,
        phrases: PhraseTable | None = None,
    ) -> None:
        array = _numbers(vectors, "vectors")
        if array.ndim != 2 or not array.size:
            raise DataError(
                f"vectors of shape {array.shape}, expected [words, dimensions], at least one of "
                "each"
            )
        check_finite("vectors", array)
        check_words(words, len(array))
        further = None if output is None else _numbers(output, "output")
        if further is not None and further.shape != array.shape:
            raise DataError(f"output is of shape {further.shape}, vectors of {array.shape}")
        self._set(
            list(words), array, counts, subwords, settings or {}, statistics or {}, further, phrases
        )

    def _set(
        self,
        words: list[str],
        vectors: Float32,
        counts: npt.ArrayLike | None,
        subwords: Subwords | None,
        settings: Mapping[str, Any],
        statistics: Mapping[str, Any],
        output: Float32 | None,
        phrases: PhraseTable | None,
    ) -> None:
        self.words = words
        self.vectors = vectors
        self.counts: Int64 | None = None if counts is None else check_counts(counts, len(words))
        self.subwords = subwords
        self.settings = dict(settings)
        self.statistics = dict(statistics)
        self.output = output
        self.phrases = phrases
        self._index = {word: row for row, word in enumerate(words)}
        self._nearest: Nearest | None = None
        self._lock = threading.Lock()

    # ---- files

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        threads: int | None = None,
        skip_bad_lines: bool = False,
    ) -> WordVectors:
        """Vectors of a folder that fastseq wrote, or of a file that others did: word2vec's text
        or binary form, GloVe's and fastText's text, fastText's model (.bin), Parquet (word,
        vector).

        A folder is mapped: memory is filled as vectors are looked at. With vectors of n-grams,
        which fastText's models have, words never seen have vectors too.

        `skip_bad_lines` skips damaged lines of a text file, as formats.read_word_vectors has it.

        Raises
        ------
        FormatError
            A folder of another kind or version, or a damaged one.
        DataError
            A file that is missing, damaged or of another kind; see store.vectors.
        """
        if not Path(path).is_dir():
            return cls._of_file(path, threads, skip_bad_lines)
        from fastseq.vectors.folder import read_vectors

        return cls.of_content(read_vectors(Path(path)))

    @classmethod
    def of_content(cls, content: VectorsContent) -> WordVectors:
        """Those of a folder that was read. Raises FormatError for damaged vectors of n-grams, or
        damaged phrases."""
        from fastseq.vectors.phrases import ARRAY, PhraseTable
        from fastseq.vectors.subword_vectors import SubwordVectors

        pieces = SubwordVectors.from_folder(content.arrays, content.settings)
        output = content.arrays.get("output")
        if output is not None and output.shape != content.vectors.shape:
            output = None
        loaded = cls.__new__(cls)
        loaded._set(
            content.words, content.vectors, content.counts, pieces, content.settings,
            content.statistics, output,
            PhraseTable.from_array(content.arrays[ARRAY]) if ARRAY in content.arrays else None,
        )  # fmt: skip
        return loaded

    @classmethod
    def _of_file(
        cls, path: str | os.PathLike[str], threads: int | None, skip_bad_lines: bool
    ) -> WordVectors:
        from fastseq.vectors.fasttext_bin import is_fasttext, read_fasttext
        from fastseq.vectors.formats import read_word_vectors

        if not is_fasttext(path):
            found = read_word_vectors(path, threads=threads, skip_bad_lines=skip_bad_lines)
            return cls(*found)
        from fastseq.vectors.subword_vectors import SubwordVectors

        file = read_fasttext(path)
        V = file.num_words
        words = Texts(file.words.data, file.words.offsets[: V + 1])
        rows: dict[str, int] = {}  # bytes that are not UTF-8 may make two words one: the first
        for row, word in enumerate(words.to_strings()):
            rows.setdefault(word, row)
        if not rows:
            raise DataError(f"{path}: no word vectors in it")
        kept = list(rows.values())
        pieces = SubwordVectors.from_fasttext(file)
        told = file.settings.loss == "ns" and file.settings.model != "supervised"
        output = file.output[kept] if told else None  # else labels, or nodes of a tree
        return cls(
            list(rows), file.vectors(words)[kept], file.counts[:V][kept], pieces, output=output
        )

    def export(
        self, path: str | os.PathLike[str], form: str | None = None, overwrite: bool = False
    ) -> None:
        """Write words and vectors as a file that other programs read.

        Parameters
        ----------
        form : "text", "binary", "parquet": see store.vector_files.write_word_vectors; by the
            suffix of `path` when None. "fasttext": fastText's model (.bin), with the vectors of
            n-grams where there are any: see fasttext_files.fasttext_file
        overwrite : replace an existing file; Parquet that this wrote is replaced without it

        Raises
        ------
        DataError
            A word that the form cannot hold.
        SettingsError
            A form that is none, or a suffix that says none; a file that exists.
        FastseqError
            The system refuses.
        """
        from fastseq.store.outputs import check_output
        from fastseq.store.vector_files import KIND, write_word_vectors

        check_output(path, KIND, overwrite=overwrite)
        if form == "fasttext":
            from fastseq.vectors.fasttext_bin import write_fasttext
            from fastseq.vectors.fasttext_files import fasttext_file

            write_fasttext(path, fasttext_file(self))
            return
        write_word_vectors(path, self.words, self.vectors, form)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write a folder of vectors, whole or not at all.

        Raises
        ------
        SettingsError
            Something stands there and `overwrite` is False, or it is not word vectors.
        FastseqError
            The system refuses, or another process writes there.
        """
        from fastseq.vectors.folder import MAIN, write_vectors

        arrays: dict[str, npt.NDArray[Any]] = {MAIN: self.vectors}
        settings = dict(self.settings)
        if self.output is not None:
            arrays["output"] = self.output
        if self.subwords is not None:
            arrays |= self.subwords.arrays
            settings["subwords"] = dict(self.subwords.settings)
        if self.phrases is not None:
            arrays["phrases"] = self.phrases.to_array()
        write_vectors(
            Path(path), self.words, arrays, self.counts, settings, self.statistics, overwrite
        )

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock, and what is made when it is needed."""
        return {**self.__dict__, "_nearest": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    # ---- words and vectors

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def __repr__(self) -> str:
        return f"<WordVectors: {len(self):,} words, {self.dimensions} dimensions>"

    @property
    def dimensions(self) -> int:
        """d"""
        return int(self.vectors.shape[1])

    def index(self, word: str) -> int:
        """The row of a word.

        Raises DataError, with the nearest spellings, for a word that is not there.
        """
        row = self._index.get(word)
        if row is None:
            raise self._unknown(word)
        return row

    def rows_of(self, words: Sequence[str]) -> Int32:
        """int32[n]: the row of each word, -1 where there is none."""
        return np.fromiter((self._index.get(word, -1) for word in words), np.int32, len(words))

    def __getitem__(self, word: str) -> Float32:
        """float32[d], a copy. Raises DataError for a word that is not there, and that no pieces
        make a vector of."""
        vector: Float32 = self.vectors_of([word])[0]
        return vector

    def vectors_of(self, words: Sequence[str]) -> Float32:
        """float32[n, d]: the vector of each word, a copy; of unknown ones made of their pieces.

        Raises DataError for the first word that is not there and that no pieces make a vector of.
        """
        rows = self.rows_of(words)
        vectors: Float32 = self.vectors[rows]
        missing = np.flatnonzero(rows < 0).tolist()
        if missing:
            unknown = [words[i] for i in missing]
            if self.subwords is None:
                raise self._unknown(unknown[0])
            vectors[missing] = self.subwords.vectors_of(unknown)
        return vectors

    def analyzer(self) -> Analyzer:
        """The one that the vectors were trained with, else Analyzer(). Raises FormatError where
        that cannot be had."""
        from fastseq.text.analyzer import Analyzer

        saved = self.settings.get("analyzer")
        return Analyzer() if saved is None else Analyzer.from_dict(saved)

    def words_of(self, text: str, analyzer: Analyzer | None = None) -> list[str]:
        """The words of a text as training had them, known or not, phrases joined. Errors as
        `analyzer`, which is used unless given."""
        words = (self.analyzer() if analyzer is None else analyzer).tokens(text)
        return words if self.phrases is None else self.phrases.transform([words])[0]

    def _unknown(self, word: Any) -> DataError:
        if not isinstance(word, str):
            return DataError(f"{word!r} is no word: expected a string, or an array as a vector")
        message = f"{word[:_SHOWN]!r} is not among the {len(self):,} words"
        near = nearest_spellings(word, self.words, self._index)
        if near:
            message += f"; nearest spellings: {', '.join(map(repr, near))}"
        return DataError(message)

    # ---- what is near

    def similarity(self, a: str, b: str) -> float:
        """The cosine of two words' vectors; 0.0 where one is zero. Raises DataError for an
        unknown word."""
        first, second = unit_rows(self.vectors_of([a, b])).astype(np.float64)
        return float(np.clip(first @ second, -1.0, 1.0))

    def nearest(
        self, queries: Float32, k: int = 10, threads: int | None = None
    ) -> tuple[Int32, Float32]:
        """Rows and cosines, both [Q, min(k, V)], of the words nearest to each of float32[Q, d].

        What is past the last (all of it, for a query of zeros) has the row -1 and the cosine 0.

        Raises
        ------
        DataError
            Queries of another shape, or with a number that is not finite.
        SettingsError
            k or threads below 1.
        """
        return self.packed(threads).search(_numbers(queries, "queries"), k, threads=threads)

    def neighbors(
        self,
        query: str | Sequence[str] | Float32,
        k: int = 10,
        threads: int | None = None,
    ) -> Neighbors:
        """The k words nearest to a word, to the mean of some words' unit vectors, or to a vector
        float32[d], with their cosines, the nearest first. Words asked for are left out.

        Nothing is near to a vector of zeros.

        Raises DataError for an unknown word, for no words, for a vector of another length or with
        a number that is not finite; SettingsError for k or threads below 1.
        """
        if isinstance(query, np.ndarray):
            rows, cosines = self.nearest(query[None], k, threads)
        else:
            words = [query] if isinstance(query, str) else list(query)
            if not words:
                raise DataError("no words to find the neighbors of")
            mean = unit_rows(self.vectors_of(words)).mean(axis=0, keepdims=True)
            packed, excluded = self.packed(threads), self.rows_of(words)[None]
            rows, cosines = packed.search(mean, k, excluded, threads=threads)
        return self._named(rows, cosines)[0]

    def neighbors_of_each(
        self, words: Sequence[str], k: int = 10, threads: int | None = None
    ) -> list[Neighbors]:
        """`neighbors` of every word by itself, all at once, which is much quicker."""
        # of length 1, as `neighbors` has them: the same bits
        vectors, excluded = unit_rows(self.vectors_of(words)), self.rows_of(words)[:, None]
        packed = self.packed(threads)
        return self._named(*packed.search(vectors, k, excluded, threads=threads))

    def analogy(
        self,
        a: str,
        b: str,
        c: str,
        k: int = 1,
        method: str = "add",
        threads: int | None = None,
    ) -> Neighbors:
        """What is to `c` as `b` is to `a`: analogy("man", "king", "woman") hopes for "queen".

        The k best words with their scores, best first; the three words are left out.

        Parameters
        ----------
        method : "add": 3CosAdd, the nearest to b - a + c of unit vectors; the score is the cosine
            (Mikolov, Yih & Zweig 2013). "mul": 3CosMul, cos(b) cos(c) / (cos(a) + 0.001) of cosines
            moved to 0 to 1 (Levy & Goldberg 2014)

        Raises DataError for an unknown word; SettingsError for another method, k or threads below
        1.
        """
        multiply = one_of("method", method, METHODS) == "mul"
        words = [a, b, c]
        vectors, excluded = self.vectors_of(words), self.rows_of(words)[None]
        questions = np.arange(3, dtype=np.int32)[None]
        packed = self.packed(threads)
        found = packed.analogies(vectors, questions, excluded, k, multiply, threads=threads)
        return self._named(*found)[0]

    def doesnt_match(self, words: Sequence[str]) -> str:
        """The word that is farthest from the mean of some words' unit vectors, of equals the first.

        Raises DataError for an unknown word, or fewer than three words.
        """
        if isinstance(words, str) or len(words) < 3:
            raise DataError(f"{words!r}: expected a list of at least three words")
        units = unit_rows(self.vectors_of(words)).astype(np.float64)
        return words[int(np.argmin(units @ units.mean(axis=0)))]

    def document_vectors(
        self,
        texts: Any,
        analyzer: Analyzer | None = None,
        method: str = "mean",
        a: float | None = None,
        components: int = 1,
        threads: int | None = None,
    ) -> Float32:
        """float32[D, d]: a vector of each text, of those of its known words.

        `documents.DocumentVectors` has the parameters; with it, what is learned on some texts
        (SIF's components) is used on others. Texts without a known word have zeros.
        """
        from fastseq.vectors.documents import DocumentVectors

        return DocumentVectors(self, analyzer, method, a, components, threads).fit_transform(texts)

    def most_frequent(self, most: int) -> WordVectors:
        """The `most` most frequent words with their vectors: where nobody counted, the first.

        Raises SettingsError for `most` below 1.
        """
        most = min(whole("most", most, 1), len(self))
        falling = self.counts is None or not (np.diff(self.counts) > 0).any()
        if falling and most == len(self):
            return self
        order = np.arange(most)
        if self.counts is not None and not falling:
            order = np.argsort(-self.counts, kind="stable")[:most]
        kept = WordVectors.__new__(WordVectors)
        counts = None if self.counts is None else self.counts[order]
        vectors = self.vectors[:most] if falling else self.vectors[order]
        words = [self.words[row] for row in order.tolist()]
        kept._set(
            words, vectors, counts, self.subwords, self.settings, self.statistics, None,
            self.phrases,
        )  # fmt: skip
        return kept

    def packed(self, threads: int | None = None) -> Nearest:
        """The unit vectors, packed for searches; made when first asked for, on `threads` threads.

        Raises DataError for a vector with a number that is not finite (a damaged file).
        """
        with self._lock:
            if self._nearest is None:
                self._nearest = Nearest(self.vectors, threads)
            return self._nearest

    def _named(self, rows: Int32, scores: Float32) -> list[Neighbors]:
        """The words of rows [Q, k] with their scores, without what is past the last."""
        return [
            [(self.words[row], score) for row, score in zip(*pair, strict=True) if row >= 0]
            for pair in zip(rows.tolist(), scores.tolist(), strict=True)
        ]


def _numbers(values: npt.ArrayLike, name: str) -> Float32:
    """A C-contiguous float32 array that says it is writable. Raises DataError for no numbers."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        raise DataError(f"{name} are no array of numbers") from None
    if array.dtype.kind not in "fiu":
        raise DataError(f"{name} are {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):  # what is too large is refused as infinite
        return np.ascontiguousarray(array, np.float32)
