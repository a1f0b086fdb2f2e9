"""Vectors of documents: those of an encoder of texts, or of a column of the corpus.

A segment has the vectors of its documents beside their postings, divided by their Euclidean norms,
so that a product with a query's unit vector is their cosine. The setting "dense" in the manifest is

    size     dimensions
    dtype    "float32", "float16", or "int8": float32 with codes
    column   of the corpus, that has the vectors
    model, digest  instead of a column: the name of the encoder, the path of a checkpoint, and the
             digest of what its vectors depend on, null where it has none
    graph    "usearch" where large segments have a graph (index/graphs.py), else missing

The code of a vector v is its bytes q in 255 steps, v ≈ low + scale · q (kernels/nn/words.py), with
an upper bound of the distance |v - low - scale · q|: what a product with bytes can be wrong by, so
that the search by codes (search/dense.py) knows which documents it must look at.

A document whose text has no vector (all zeros, as of an empty text) is no hit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError, quoted, warn
from fastseq.index import graphs
from fastseq.index import segment as layout
from fastseq.kernels.nn.words import to_bytes
from fastseq.kernels.vectors.dense import unit_rows
from fastseq.settings import one_of
from fastseq.store.container import ContainerWriter
from fastseq.store.files import SpillFile, writing
from fastseq.types import Float32, Texts, UInt8, UInt32, VectorRows

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch

DTYPES = ("float32", "float16", "int8")
WITH_CODES = "int8"
INDEXES = ("exact", "usearch")
WITH_GRAPHS = "usearch"
_ABOVE, _LEAST = 1 + 1e-6, 1e-7  # rounding of a distance to float32 stays above it
_HELD = 8 << 20  # bytes of vectors in memory before they are moved to a file
ROWS = 4096  # at a time
_ADDED = 256  # documents added to a graph between two reports
_COPIED = 1 << 20  # bytes of a graph that are copied at a time
_SEVERAL = ("encode_document", "encode_query")  # of encoders with prompts for both

Encode = Callable[[list[str]], Any]


class DenseSettings(NamedTuple):
    """The setting "dense" of an index: see above."""

    size: int
    dtype: str = "float32"
    column: str | None = None
    model: str | None = None
    digest: str | None = None
    graph: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The setting, for the manifest."""
        own: dict[str, Any] = {"size": self.size, "dtype": self.dtype}
        if self.graph is not None:
            own["graph"] = self.graph
        if self.column is not None:
            return own | {"column": self.column}
        return own | {"model": self.model, "digest": self.digest}

    @property
    def stored(self) -> str:
        """The type of the stored numbers."""
        return stored_dtype(self.dtype)

    @staticmethod
    def of(settings: Mapping[str, Any]) -> DenseSettings | None:
        """The setting of a manifest; None where there is none."""
        found = settings.get("dense")
        return None if found is None else DenseSettings(**found)


def stored_dtype(dtype: str) -> str:
    """The type of the stored numbers of one of DTYPES."""
    return "float32" if dtype == WITH_CODES else dtype


class DenseModel:
    """An encoder of texts, as a caller gives it.

    Parameters
    ----------
    encoder : a function from a list of strings to float32[n, H], or an object with a method
        `encode` of this kind, as TextEncoder; its methods `encode_document` and `encode_query` are
        used where it has them. Its attributes `path` and `digest` identify it

    Attributes
    ----------
    name : the path, else the name of the function or type
    digest : None where it has none

    Raises SettingsError for another object.
    """

    def __init__(self, encoder: Any) -> None:
        if isinstance(encoder, str | bytes | Path):
            raise SettingsError(
                f"{encoder!r:.80} is a path: load the encoder, as by fastseq.TextEncoder.load"
            )
        self._encoder = encoder
        document, query = (getattr(encoder, name, None) for name in _SEVERAL)
        encode = getattr(encoder, "encode", None) or encoder
        self._document, self._query = document or encode, query or encode
        if not callable(self._document) or not callable(self._query):
            raise SettingsError(
                "an encoder must be a function from a list of strings to vectors, or have a method "
                f"encode, as fastseq.TextEncoder: not {encoder!r:.80}"
            )
        path = getattr(encoder, "path", None)
        named = encoder if hasattr(encoder, "__qualname__") else type(encoder)
        own = f"{named.__module__}.{named.__qualname__}"
        self.name = str(Path(path).absolute()) if isinstance(path, str | Path) else own
        digest = getattr(encoder, "digest", None)
        self.digest = digest if isinstance(digest, str) else None

    def documents(self, texts: Texts) -> Float32:
        """float32[n, H], the vectors of the texts of documents. Raises DataError for a result of
        another shape, or with a number that is not finite."""
        return self._vectors(self._document, texts.to_strings(), "documents")

    def queries(self, texts: Sequence[str]) -> Float32:
        """The same of queries."""
        return self._vectors(self._query, list(texts), "queries")

    def _vectors(self, encode: Encode, texts: list[str], what: str) -> Float32:
        result = encode(texts)
        try:
            found = np.asarray(result, np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.name} returned a {type(result).__name__} that is not an array of numbers "
                f"for {len(texts)} {what}: {error}"
            ) from error
        if found.ndim != 2 or len(found) != len(texts) or not found.shape[1]:
            raise DataError(
                f"{self.name} returned an array of shape {found.shape} for {len(texts)} {what}, "
                f"expected [{len(texts)}, dimensions]"
            )
        return np.ascontiguousarray(found)

    def warn_of_texts(self) -> None:
        """Warn of the texts that the encoder has truncated, or that have no vector."""
        take = getattr(self._encoder, "take_messages", None)
        for message in () if take is None else take():
            warn(message)

    def check(self, settings: DenseSettings, size: int | None = None) -> None:
        """Raise SettingsError unless the vectors of an index are of this encoder."""
        if size is not None and size != settings.size:
            raise SettingsError(
                f"{self.name} makes vectors of {size} numbers, but those of the index have "
                f"{settings.size}" + ("" if settings.model is None else f" ({settings.model})")
            )
        if settings.column is not None:
            return  # whatever made the vectors
        same = self.name == settings.model
        if self.digest is not None or settings.digest is not None:
            same = self.digest == settings.digest
        if not same:
            both = [(settings.model, settings.digest), (self.name, self.digest)]
            first, second = (
                f"{name} (digest {digest[:12]})" if digest else str(name) for name, digest in both
            )
            raise SettingsError(
                f"the vectors of the index are of the model {first}, but this is {second}: "
                "vectors of different models cannot be compared"
            )


class DenseBuild(NamedTuple):
    """How the vectors of documents are made for a segment.

    model   None where a column has them
    dtype   of the stored numbers
    size    dimensions; None where they are not known yet
    column  that has them
    graph   "usearch" where large segments have one
    """

    model: DenseModel | None
    dtype: str
    size: int | None = None
    column: str | None = None
    graph: str | None = None

    def vectors_of(self, batch: RowBatch, texts: Callable[[], Texts]) -> VectorRows:
        """The vectors of a batch; H is 0 where no row has one and the dimensions are not known.

        texts : those of the rows
        """
        if self.model is None:
            assert batch.vectors is not None
            return batch.vectors
        found = self.model.documents(texts())
        return VectorRows(found, np.arange(len(found)))

    def settings(self, size: int) -> DenseSettings:
        """The setting of the index."""
        if self.model is None:
            return DenseSettings(size, self.dtype, self.column, graph=self.graph)
        own = self.model.name, self.model.digest
        return DenseSettings(size, self.dtype, None, *own, self.graph)


def dense_build(
    encoder: Any, column: str | None, dtype: str, index: str = "exact"
) -> DenseBuild | None:
    """What `Index.build` is given; None where neither an encoder nor a column is. Raises
    SettingsError for both, and as DenseModel; MissingExtraError for graphs without usearch."""
    one_of("dense_dtype", dtype, DTYPES)
    one_of("dense_index", index, INDEXES)
    graph = index if index == WITH_GRAPHS else None
    if encoder is None and column is None:
        if graph is not None:
            raise SettingsError("dense_index='usearch' needs vectors: dense=… or dense_column=…")
        return None
    if encoder is not None and column is not None:
        raise SettingsError("dense and dense_column cannot be combined")
    if graph is not None:
        graphs.require_usearch()
    model = None if encoder is None else DenseModel(encoder)
    return DenseBuild(model, dtype, None, column, graph)


def changed_build(encoder: Any, settings: DenseSettings | None) -> DenseBuild | None:
    """How the vectors of documents added to an index are made. `encoder` is None where none is
    given: that of an index with a model is then an error where vectors are needed.

    Raises SettingsError for an encoder where the index has no vectors, or those of a column or of
    another model; MissingExtraError where the index has graphs and usearch is not installed.
    """
    if settings is not None and settings.graph is not None:
        graphs.require_usearch()
    if settings is None:
        if encoder is not None:
            raise SettingsError(
                "the index has no vectors: build it again with dense=… or without the encoder"
            )
        return None
    if settings.column is not None:
        if encoder is not None:
            raise SettingsError(
                f"the index has the vectors of the column {quoted(settings.column)}: it needs no "
                "encoder"
            )
        return DenseBuild(None, settings.dtype, settings.size, settings.column, settings.graph)
    if encoder is None:
        raise SettingsError(
            f"the index has vectors of the model {settings.model}: give it, dense=…, to add "
            "documents"
        )
    model = DenseModel(encoder)
    size = getattr(encoder, "size", None)
    model.check(settings, size if type(size) is int else None)
    return DenseBuild(model, settings.dtype, settings.size, graph=settings.graph)


class VectorBuilder:
    """The vectors of a segment in progress, which are in a file from 8 MB on.

    make_spill : makes the path of the file
    """

    def __init__(self, build: DenseBuild, make_spill: Callable[[], Path]) -> None:
        self._build, self._make_spill = build, make_spill
        self._dtype = np.dtype(stored_dtype(build.dtype))
        self.size = build.size
        self._parts: list[npt.NDArray[Any]] = []
        self._held = self._spilled = self.rows = 0
        self._file: SpillFile | None = None
        self._missing: list[UInt32] = []

    def append(self, batch: RowBatch, texts: Callable[[], Texts]) -> None:
        """Add the vectors of the rows of a batch; `texts` returns their texts.

        Raises DataError for vectors of another length, and a number that is not finite.
        """
        found = self._build.vectors_of(batch, texts)
        width = found.values.shape[1]
        if self.size is None and width:
            self.size = width
            for first in range(0, self.rows, ROWS):  # without vectors
                self._hold(np.zeros((min(ROWS, self.rows - first), self.size), self._dtype))
        if width != (self.size or 0) and (width or self._build.column is None):
            raise DataError(
                f"{batch.where(0)}: a vector of {width} numbers, but those of the index have "
                f"{self.size}"
            )
        for first in range(0, len(found), ROWS):
            some = found.dense(first, first + ROWS, self.size or 0)
            units = unit_rows(some)
            if units is None:
                row = first + int(np.argmin(np.isfinite(some).all(axis=1)))
                raise DataError(f"{batch.where(row)}: its vector has a number that is not finite")
            none = np.flatnonzero(~units.any(axis=1))
            self._missing.append((self.rows + none).astype(np.uint32))
            self.rows += len(units)
            if self.size is not None:
                self._hold(units.astype(self._dtype))

    def _hold(self, vectors: npt.NDArray[Any]) -> None:
        self._parts.append(vectors)
        self._held += vectors.nbytes
        if self._held > _HELD:
            if self._file is None:
                self._file = SpillFile(self._make_spill())
            for part in self._parts:
                self._file.append(part.reshape(-1))
                self._spilled += part.size
            self._parts, self._held = [], 0

    def write(self, container: ContainerWriter) -> None:
        """Write the arrays. Raises DataError where no row has a vector, and OSError where the
        system refuses."""
        if self.size is None:
            where = f"column {quoted(self._build.column)}"
            raise DataError(f"{where}: every vector is null or empty, expected lists of numbers")
        has_codes = self._build.dtype == WITH_CODES
        regions = VectorRegions(container, self._dtype, self.size, self.rows, has_codes)
        step = ROWS * self.size
        for start in range(0, self._spilled, step):
            assert self._file is not None
            count = min(step, self._spilled - start)
            regions.append(self._file.read(start * self._dtype.itemsize, self._dtype, count))
        for part in self._parts:
            regions.append(part)
        container.array(layout.NO_VECTOR, np.concatenate(self._missing))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class VectorRegions:
    """The arrays of vectors in a segment that is written.

    container : of the segment
    dtype : of the stored numbers
    size, documents : of the vectors
    has_codes : whether they have codes, which `append` makes
    """

    def __init__(
        self, container: ContainerWriter, dtype: npt.DTypeLike, size: int, documents: int,
        has_codes: bool,
    ) -> None:  # fmt: skip
        self._size, self._width = size, 4 * -(-size // 4)
        self._vectors = container.region(layout.VECTORS, dtype, documents * size)
        self._codes = self._steps = None
        if has_codes:
            codes = documents * self._width
            self._codes = container.region(layout.VECTOR_CODES, np.uint8, codes)
            self._steps = container.region(layout.VECTOR_STEPS, np.float32, documents * 3)

    def append(self, vectors: npt.NDArray[Any]) -> None:
        """Write the next vectors, of the stored type, in any shape. Raises OSError."""
        rows = vectors.reshape(-1, self._size)
        self._vectors.append(rows)
        if self._codes is None or self._steps is None:
            return
        for start in range(0, len(rows), ROWS):
            codes, steps = coded(np.ascontiguousarray(rows[start : start + ROWS]))
            self._codes.append(codes)
            self._steps.append(steps)


def write_graph(
    container: ContainerWriter, documents: int, path: Path, done: Callable[[int, int], None]
) -> dict[str, bool]:
    """Write the graph of a segment whose vectors are written, where they are many enough. Returns
    its part of the segment's entry in the manifest.

    documents : of the segment
    path : of a temporary file
    done : called with the number of documents that have their place, and of all

    Raises MissingExtraError without usearch, FastseqError where the system refuses.
    """
    present = np.ones(documents, np.bool_)
    present[container.written(layout.NO_VECTOR)] = False
    if np.count_nonzero(present) < graphs.LEAST:
        return {}
    size = container.elements(layout.VECTORS) // documents
    graph = graphs.GraphBuilder(size)
    for first in range(0, documents, _ADDED):
        last = min(first + _ADDED, documents)
        raw = container.written(layout.VECTORS, first * size, last * size).reshape(-1, size)
        there = np.flatnonzero(present[first:last])
        graph.add(first + there, raw[there].astype(np.float32))
        done(last, documents)
    graph.save(path)
    del graph
    with writing(container.path), open(path, "rb") as file:
        region = container.region(layout.VECTOR_GRAPH, np.uint8, path.stat().st_size)
        while part := file.read(_COPIED):
            region.append(part)
    with writing(path):
        path.unlink()
    return {"graph": True}


def coded(vectors: Float32) -> tuple[UInt8, Float32]:
    """(codes uint8[n, 4 ceil(H / 4)], steps float32[n, 3]: scale, low and the largest distance) of
    vectors float32[n, H]."""
    n, size = vectors.shape
    codes = np.empty((n, 4 * -(-size // 4)), np.uint8)
    scales, lows = np.empty((2, n), np.float32)
    to_bytes(codes, scales, lows, vectors, 0, n)
    rounded = lows[:, None] + scales[:, None] * codes[:, :size].astype(np.float64)
    distances = np.sqrt(np.square(vectors - rounded).sum(1))
    return codes, np.stack([scales, lows, distances * _ABOVE + _LEAST], axis=1, dtype=np.float32)
