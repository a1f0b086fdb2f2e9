"""Word vectors: look up, compare, neighbours, analogies, vectors of documents.

SIF, smooth inverse frequency (Arora, Liang & Ma, "A Simple but Tough-to-Beat Baseline for Sentence
Embeddings", 2017, algorithm 1), weights each word of a document by a / (a + p(w)), p(w) being its
share of all words, and removes the first principal component of all documents. On retrieval sets it
is better than the mean, with p(w) of the training text and a small `a`; if all documents are of one
field, removing two or three components (as Mu & Viswanath 2018, "All-but-the-Top", do with words)
is better still: see bench/documents.py.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, NotFittedError, located
from fastseq.settings import one_of, real, thread_count, whole
from fastseq.store.texts import TextSource, open_texts
from fastseq.store.weights import Arrays
from fastseq.text.analyzer import Analyzer
from fastseq.text.counting import taken
from fastseq.text.lexicon import Lexicon
from fastseq.text.settings import FEATURES_TOKENIZER
from fastseq.types import Float32, Float64, Int32, Int64, Texts
from fastseq.vectors import folder
from fastseq.vectors.nearest import Nearest, unit_rows
from fastseq.vectors.phrases import PHRASES, PhraseTable
from fastseq.vectors.spelling import nearest_spellings
from fastseq.vectors.subword_vectors import SUBWORDS, SubwordVectors

DOCUMENT_METHODS = ("mean", "sif")
METHODS = ("add", "mul")
_SHOWN = 40  # characters of a word in a message
_DOCUMENTS = 4096  # documents whose products are summed at a time

Neighbors = list[tuple[str, float]]


class Subwords(Protocol):
    """Makes vectors of unknown words. `arrays` and `settings` are what folders store of it."""

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

    Raises DataError for words that are empty, duplicate or no valid Unicode; another number of
    words than of vectors or counts; no words or no dimensions; a number that is not finite.

    Parameters
    ----------
    words : V different strings; by falling frequency, where that is known
    vectors : numbers [V, d], stored as float32
    counts : occurrences of each word in the training text, or None
    subwords : makes vectors of other words; None: they are unknown
    settings, statistics : of the training
    output : numbers [V, d], the target vectors of words, for further training; or None
    phrases : joins phrases as in the training text; None: no phrases

    Attributes
    ----------
    words : list of str
    vectors : float32[V, d], C-contiguous
    counts : int64[V] or None
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
        folder.check_finite("vectors", array)
        folder.check_words(words, len(array))
        further = None if output is None else _numbers(output, "output")
        if further is not None and further.shape != array.shape:
            raise DataError(f"output is of shape {further.shape}, vectors of {array.shape}")
        self._set(list(words), array, counts, subwords, settings, statistics, further, phrases)

    def _set(
        self, words: list[str], vectors: Float32, counts: npt.ArrayLike | None,
        subwords: Subwords | None, settings: Mapping[str, Any] | None,
        statistics: Mapping[str, Any] | None, output: Float32 | None, phrases: PhraseTable | None,
    ) -> None:  # fmt: skip
        self.words, self.vectors = words, vectors
        known = None if counts is None else folder.check_counts(counts, len(words))
        self.counts: Int64 | None = known
        self.subwords, self.phrases, self.output = subwords, phrases, output
        self.settings, self.statistics = dict(settings or {}), dict(statistics or {})
        self._index = {word: row for row, word in enumerate(words)}
        self._nearest: Nearest | None = None
        self._lock = threading.Lock()

    # ---- files

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], threads: int | None = None, skip_bad_lines: bool = False
    ) -> WordVectors:
        """Load vectors from a folder of fastseq (mapped, not read), or from a file: word2vec's text
        or binary form, GloVe's and fastText's text, fastText's model (.bin), Parquet (word,
        vector). With vectors of n-grams, as in fastText's models, unknown words have vectors too.

        `skip_bad_lines` skips damaged lines of a text file, as in formats.read_word_vectors.

        Raises FormatError for a folder that is damaged or of another kind or version, DataError for
        a file that is missing, damaged or of another kind (see store.vector_files).
        """
        if Path(path).is_dir():
            return cls.of_content(folder.read_vectors(Path(path)))
        from fastseq.vectors.fasttext_bin import is_fasttext, read_fasttext
        from fastseq.vectors.formats import read_word_vectors

        if not is_fasttext(path):
            return cls(*read_word_vectors(path, threads=threads, skip_bad_lines=skip_bad_lines))
        file = read_fasttext(path)
        V = file.num_words
        texts = Texts(file.words.data, file.words.offsets[: V + 1])
        rows: dict[str, int] = {}  # bytes that are not UTF-8 may make two words equal
        for row, word in enumerate(texts.to_strings()):
            rows.setdefault(word, row)
        if not rows:
            raise DataError(f"{path}: no word vectors in it")
        kept = list(rows.values())
        # else the output is of labels, or of nodes of a tree
        has_output = file.settings.loss == "ns" and file.settings.model != "supervised"
        return cls(
            list(rows), file.vectors(texts)[kept], file.counts[:V][kept], file.subwords,
            output=file.output[kept] if has_output else None,
        )  # fmt: skip

    @classmethod
    def of_content(cls, content: folder.VectorsContent) -> WordVectors:
        """Those of a folder that was read. Raises FormatError for damaged vectors of n-grams or
        phrases."""
        arrays, output = content.arrays, content.arrays.get("output")
        if output is not None and output.shape != content.vectors.shape:
            output = None
        loaded = cls.__new__(cls)
        loaded._set(
            content.words, content.vectors, content.counts,
            SubwordVectors.from_folder(arrays, content.settings), content.settings,
            content.statistics, output,
            PhraseTable.from_array(arrays[PHRASES]) if PHRASES in arrays else None,
        )  # fmt: skip
        return loaded

    def export(
        self, path: str | os.PathLike[str], form: str | None = None, overwrite: bool = False
    ) -> None:
        """Write words and vectors as a file that other programs read.

        Raises DataError for a word that the form cannot hold, SettingsError for an unknown form or
        suffix or a file that exists, FastseqError where the system refuses.

        Parameters
        ----------
        form : "text", "binary", "parquet": see store.vector_files.write_word_vectors; None: by the
            suffix of `path`. "fasttext": fastText's model (.bin), with vectors of n-grams if there
            are any: see fasttext_bin.fasttext_file
        overwrite : replace an existing file; Parquet that this wrote is replaced without it
        """
        from fastseq.store.outputs import check_output
        from fastseq.store.vector_files import KIND, write_word_vectors

        check_output(path, KIND, overwrite=overwrite)
        if form == "fasttext":
            from fastseq.vectors.fasttext_bin import fasttext_file, write_fasttext

            model = fasttext_file(
                self.words, self.vectors, self.counts, self.subwords, self.output, self.settings
            )
            write_fasttext(path, model)
            return
        write_word_vectors(path, self.words, self.vectors, form)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write a folder of vectors, whole or not at all.

        Raises SettingsError where `path` exists and `overwrite` is False, or it is no folder of
        word vectors, FastseqError where the system refuses or another process writes there.
        """
        folder.write_vectors(Path(path), *self.content(), overwrite=overwrite)

    def content(self) -> folder.Content:
        """Words, arrays, counts, settings and statistics, as a folder stores them."""
        arrays: Arrays = {folder.MAIN: self.vectors}
        settings = dict(self.settings)
        if self.output is not None:
            arrays["output"] = self.output
        if self.subwords is not None:
            arrays |= self.subwords.arrays
            settings[SUBWORDS] = dict(self.subwords.settings)
        if self.phrases is not None:
            arrays[PHRASES] = self.phrases.to_array()
        return self.words, arrays, self.counts, settings, self.statistics

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock and what is computed on demand."""
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
        """The row of a word. Raises DataError, with similar spellings, for an unknown word."""
        row = self._index.get(word)
        if row is None:
            raise self._unknown(word)
        return row

    def rows_of(self, words: Sequence[str]) -> Int32:
        """int32[n]: the row of each word, -1 where there is none."""
        return np.fromiter((self._index.get(word, -1) for word in words), np.int32, len(words))

    def __getitem__(self, word: str) -> Float32:
        """float32[d], a copy. Raises DataError for an unknown word without subwords."""
        vector: Float32 = self.vectors_of([word])[0]
        return vector

    def vectors_of(self, words: Sequence[str]) -> Float32:
        """float32[n, d]: the vector of each word, a copy; of unknown ones from their subwords.
        Raises DataError for the first unknown word without subwords."""
        rows = self.rows_of(words)
        vectors: Float32 = self.vectors[rows]
        missing = np.flatnonzero(rows < 0).tolist()
        if missing:
            unknown = [words[i] for i in missing]
            if self.subwords is None:
                raise self._unknown(unknown[0])
            vectors[missing] = self.subwords.vectors_of(unknown)
        return vectors

    def analyzer(self, given: Analyzer | None = None) -> Analyzer:
        """The given analyzer, else that of the training, else Analyzer(); the default tokenizer is
        `word`. Raises FormatError for one of the training that is not available."""
        if given is None:
            saved = self.settings.get("analyzer")
            given = Analyzer() if saved is None else Analyzer.from_dict(saved)
        return given.resolved(FEATURES_TOKENIZER)

    def words_of(self, text: str, analyzer: Analyzer | None = None) -> list[str]:
        """The words of a text as in training, known or not, phrases joined. Raises as `analyzer`,
        whose result is the default."""
        words = self.analyzer(analyzer).tokens(text)
        return words if self.phrases is None else self.phrases.transform([words])[0]

    def _unknown(self, word: Any) -> DataError:
        if not isinstance(word, str):
            return DataError(f"{word!r} is no word: expected a string, or an array as a vector")
        message = f"{word[:_SHOWN]!r} is not among the {len(self):,} words"
        near = nearest_spellings(word, self.words, self._index)
        if near:
            message += f"; nearest spellings: {', '.join(map(repr, near))}"
        return DataError(message)

    # ---- similarity

    def similarity(self, a: str, b: str) -> float:
        """The cosine of two words' vectors; 0.0 where one is zero. Raises DataError for an
        unknown word."""
        first, second = unit_rows(self.vectors_of([a, b])).astype(np.float64)
        return float(np.clip(first @ second, -1.0, 1.0))

    def nearest(
        self, queries: Float32, k: int = 10, threads: int | None = None
    ) -> tuple[Int32, Float32]:
        """Rows and cosines, both [Q, min(k, V)], of the words nearest to each of float32[Q, d].

        Past the last, and for a query of zeros, rows are -1 and cosines 0.

        Raises DataError for queries of another shape or with a number that is not finite,
        SettingsError for k or threads below 1.
        """
        return self.packed(threads).search(_numbers(queries, "queries"), k, threads=threads)

    def neighbors(
        self, query: str | Sequence[str] | Float32, k: int = 10, threads: int | None = None
    ) -> Neighbors:
        """The k words nearest to a word, to the mean of some words' unit vectors, or to a vector
        float32[d], with their cosines, the nearest first, without the query's words. A vector of
        zeros has no neighbours.

        Raises DataError for an unknown word, for no words, for a vector of another length or with
        a number that is not finite; SettingsError for k or threads below 1.
        """
        if isinstance(query, np.ndarray):
            return self._named(*self.nearest(query[None], k, threads))[0]
        words = [query] if isinstance(query, str) else list(query)
        if not words:
            raise DataError("no words to find the neighbors of")
        mean = unit_rows(self.vectors_of(words)).mean(axis=0, keepdims=True)
        packed, excluded = self.packed(threads), self.rows_of(words)[None]
        return self._named(*packed.search(mean, k, excluded, threads=threads))[0]

    def neighbors_of_each(
        self, words: Sequence[str], k: int = 10, threads: int | None = None
    ) -> list[Neighbors]:
        """`neighbors` of each word, computed together, which is much faster."""
        # unit vectors, as in `neighbors`: the same bits
        vectors, excluded = unit_rows(self.vectors_of(words)), self.rows_of(words)[:, None]
        packed = self.packed(threads)
        return self._named(*packed.search(vectors, k, excluded, threads=threads))

    def analogy(
        self, a: str, b: str, c: str, k: int = 1, method: str = "add", threads: int | None = None
    ) -> Neighbors:
        """The k best answers to "a is to b as c is to ?" with their scores, without a, b and c:
        analogy("man", "king", "woman") should give "queen".

        Raises DataError for an unknown word; SettingsError for another method, k or threads below
        1.

        Parameters
        ----------
        method : "add": 3CosAdd, the nearest to b - a + c of unit vectors; the score is the cosine
            (Mikolov, Yih & Zweig 2013). "mul": 3CosMul, cos(b) cos(c) / (cos(a) + 0.001) of cosines
            moved to 0 to 1 (Levy & Goldberg 2014)
        """
        multiply = one_of("method", method, METHODS) == "mul"
        vectors, excluded = self.vectors_of([a, b, c]), self.rows_of([a, b, c])[None]
        packed, questions = self.packed(threads), np.arange(3, dtype=np.int32)[None]
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
        """float32[D, d]: a vector of each text from its known words; zeros without any. Parameters
        are those of `DocumentVectors`, which can also use SIF's components of other texts."""
        return DocumentVectors(self, analyzer, method, a, components, threads).fit_transform(texts)

    def most_frequent(self, most: int) -> WordVectors:
        """The `most` most frequent words with their vectors; without counts the first. Raises
        SettingsError for `most` below 1."""
        most = min(whole("most", most, 1), len(self))
        falling = self.counts is None or not (np.diff(self.counts) > 0).any()
        if falling and most == len(self):
            return self
        order = np.arange(most)
        if self.counts is not None and not falling:
            order = np.argsort(-self.counts, kind="stable")[:most]
        kept = WordVectors.__new__(WordVectors)
        kept._set(
            [self.words[row] for row in order.tolist()],
            self.vectors[:most] if falling else self.vectors[order],
            None if self.counts is None else self.counts[order],
            self.subwords, self.settings, self.statistics, None, self.phrases,
        )  # fmt: skip
        return kept

    def packed(self, threads: int | None = None) -> Nearest:
        """The unit vectors, packed for searches on first use, on `threads` threads.

        Raises DataError for a vector with a number that is not finite (a damaged file).
        """
        with self._lock:
            if self._nearest is None:
                self._nearest = Nearest(self.vectors, threads)
            return self._nearest

    def _named(self, rows: Int32, scores: Float32) -> list[Neighbors]:
        """The words of rows [Q, k] with their scores, without the padding of -1."""
        return [
            [(self.words[row], score) for row, score in zip(*pair, strict=True) if row >= 0]
            for pair in zip(rows.tolist(), scores.tolist(), strict=True)
        ]


class DocumentVectors:
    """Vectors of documents from those of their words: plain means, and SIF.

    Phrases that the vectors were trained with are joined in the texts too.

    Parameters
    ----------
    vectors : of words
    analyzer : splits texts into words, by default with the tokenizer `word`; None: that of the
        vectors' training (`vectors.settings["analyzer"]`), else Analyzer()
    method : "mean" of the known words' vectors, or "sif"
    a : SIF's smoothing, above 0; 1e-3 to 1e-4 in the paper. None: 1e-4, and 1e-2 if the vectors
        have no counts: word frequencies of a few texts on one subject are less reliable
    components : SIF's principal components to remove, from 0; 1 in the paper
    threads : None: all cores

    Attributes
    ----------
    components_ : float32[components, d], SIF's: learned by `fit`, None before; may be set to
        earlier ones. Each of length 1, or zeros if the texts have no more
    frequencies_ : {word: share} in the texts of `fit`, if the vectors have no counts
    empty_ : texts without a known word in the last transformation; their vectors are zeros

    Raises SettingsError for another method, an `a` that is not above 0, components below 0 or
    threads below 1, FormatError if the analyzer of the vectors' training is not available.
    """

    def __init__(
        self,
        vectors: WordVectors,
        analyzer: Analyzer | None = None,
        method: str = "sif",
        a: float | None = None,
        components: int = 1,
        threads: int | None = None,
    ) -> None:
        self.vectors = vectors
        self.analyzer = vectors.analyzer(analyzer)
        self.method = one_of("method", method, DOCUMENT_METHODS)
        if a is None:
            a = 1e-2 if vectors.counts is None else 1e-4
        self.a = real("a", a, lambda value: 0 < value < np.inf, "a number above 0")
        self.threads = thread_count(threads)
        self.components = whole("components", components, 0)
        self.components_: Float32 | None = None
        self.frequencies_: dict[str, float] | None = None
        self.empty_ = 0

    def fit(self, texts: Any) -> DocumentVectors:
        """Learn SIF's components from texts; arguments and errors as in `transform`."""
        if self.method == "sif":
            self._learn(texts)
        return self

    def transform(self, texts: Any) -> Float32:
        """float32[D, d]: a vector of each text.

        texts : strings, types.Texts, an Arrow column of strings, a path, a Corpus or a table

        Raises DataError for what is no text, or not UTF-8, NotFittedError for SIF before `fit`.
        """
        if self.method == "sif" and self.components_ is None:
            raise NotFittedError("SIF's components are not known yet: call fit with some texts")
        return self._without_component(self._averages(open_texts(texts)))

    def fit_transform(self, texts: Any) -> Float32:
        """`fit`, then `transform`, of the same texts."""
        if self.method == "sif":
            return self._without_component(self._learn(texts))
        return self.transform(texts)

    def _learn(self, texts: Any) -> Float32:
        """Learn frequencies, if the vectors have none, and components; return weighted means."""
        source = open_texts(texts)
        if self.vectors.counts is None:
            slices = list(source.slices())
            source = TextSource(lambda: iter(slices), source.where)
            self.frequencies_ = self._shares(source)
        averages = self._averages(source)
        self.components_ = principal_components(averages, self.components)
        return averages

    def _without_component(self, averages: Float32) -> Float32:
        if self.components_ is None or self.method == "mean":
            return averages
        projected: Float32 = averages @ self.components_.T
        averages -= projected @ self.components_
        return averages

    def _averages(self, source: TextSource) -> Float32:
        """Weighted means of the known words of each text, zeros for none."""
        import scipy.sparse

        parts = [np.zeros((0, self.vectors.dimensions), np.float32)]
        self.empty_ = 0
        for ids, offsets, words in self._encoded(source):
            known, weighted = self._weighted(words)
            used = known[ids]
            ends = np.concatenate([[0], np.cumsum(used)])[offsets]
            lengths = np.diff(ends)
            shares = np.repeat(1.0 / np.maximum(lengths, 1), lengths).astype(np.float32)
            shape = (len(lengths), len(words))
            means = scipy.sparse.csr_matrix((shares, ids[used], ends), shape) @ weighted
            parts.append(means.astype(np.float32, copy=False))
            self.empty_ += int((lengths == 0).sum())
        return np.concatenate(parts)

    def _encoded(self, source: TextSource) -> Iterator[tuple[Int32, Any, list[str]]]:
        """For each slice: its words as ids, the offsets of its texts, the different words."""
        lexicon = Lexicon(self.analyzer)
        first = 0
        for texts in source.slices():
            with located(source.where, first):
                tokens = lexicon.encode(texts)
            first += len(texts)
            distinct, ids = np.unique(tokens.values, return_inverse=True)
            words, offsets = taken(lexicon.terms(), distinct).to_strings(), tokens.offsets
            rows: Int32 = ids.astype(np.int32)
            if self.vectors.phrases is not None:
                ends = np.diff(offsets).cumsum()
                words, rows = self.vectors.phrases.join(words, rows, ends)
                offsets = np.concatenate([np.zeros(1, np.int64), ends])
            yield rows, offsets, words

    def _weighted(self, words: list[str]) -> tuple[Any, Float32]:
        """Which words are known, bool[n], and their vectors times their weights, float32[n, d]."""
        rows = self.vectors.rows_of(words)
        known = rows >= 0
        weighted = np.zeros((len(words), self.vectors.dimensions), np.float32)
        weighted[known] = self.vectors.vectors[rows[known]]
        if self.vectors.subwords is not None and not known.all():
            made = np.flatnonzero(~known)
            weighted[made] = self.vectors.subwords.vectors_of([words[i] for i in made])
            known = np.ones(len(words), np.bool_)
        if self.method == "sif":
            weights = self.a / (self.a + self._frequencies(words, rows))
            weighted *= weights[:, None].astype(np.float32)
        return known, weighted

    def _frequencies(self, words: list[str], rows: Int32) -> Float64:
        """p(w) of each word; 0 if not counted."""
        counts, shares = self.vectors.counts, self.frequencies_
        if counts is not None:
            found: Float64 = np.where(rows >= 0, counts[rows], 0) / max(1, int(counts.sum()))
            return found
        return np.array([(shares or {}).get(word, 0.0) for word in words])

    def _shares(self, source: TextSource) -> dict[str, float]:
        counts: Counter[str] = Counter()
        for ids, _, words in self._encoded(source):
            found = np.bincount(ids, minlength=len(words)).tolist()
            counts.update(dict(zip(words, found, strict=True)))
        total = max(1, counts.total())
        return {word: count / total for word, count in counts.items()}


def _numbers(values: npt.ArrayLike, name: str) -> Float32:
    """The values as C-contiguous float32. Raises DataError for what is no array of numbers."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        raise DataError(f"{name} are no array of numbers") from None
    if array.dtype.kind not in "fiu":
        raise DataError(f"{name} are {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused
        return np.ascontiguousarray(array, np.float32)


def principal_components(rows: Float32, n: int) -> Float32:
    """float32[n, d]: the first right singular vectors of float32[D, d], not centred, of length 1;
    the largest element of each is positive. Zeros where the rows have no more directions."""
    d = rows.shape[1]
    gram = np.zeros((d, d))
    for start in range(0, len(rows), _DOCUMENTS):
        some = rows[start : start + _DOCUMENTS].astype(np.float64)
        gram += some.T @ some
    squares, vectors = np.linalg.eigh(gram)
    found = np.zeros((n, d), np.float32)
    for row in range(min(n, d)):
        component = vectors[:, -1 - row]
        if squares[-1 - row] > squares[-1] * d * np.finfo(np.float64).eps:
            found[row] = component * np.sign(component[np.argmax(np.abs(component))])
    return found
