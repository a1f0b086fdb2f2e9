"""Recurrent and transformer layers, models and search on the GPU: checked against the CPU, timed
against cuDNN and PyTorch.

For bench.gpu. Importing it needs a GPU or Numba's CUDA simulator.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fastseq
from bench.common.harness import alternate
from fastseq.kernels.cuda.recurrent import recurrent
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn import recurrent as host
from fastseq.nn import transformer as host_transformer
from fastseq.nn.cuda import recurrent as device
from fastseq.nn.cuda import transformer as device_transformer

TOLERANCE = 1e-4
ROUNDED = {"tf32": 5e-3, "bfloat16": 5e-2}  # with operands rounded at every step
CELLS = ("lstm", "gru", "rnn", "rnn_relu")
TIMED = [(cell, H, B, 256) for cell in ("lstm", "gru") for H in (64, 128, 192, 256, 512)
         for B in (64, 256, 1024)] + [("lstm", 768, 16, 1024)]  # fmt: skip
TRANSFORMERS = [(384, 12, 64, 128), (768, 12, 32, 128), (768, 12, 16, 512)]  # H, heads, B, n
WORDS = ("the", "a", "dog", "cat", "barks", "sleeps", "here", "there", "never", "often")
ROUNDS = 5  # at least, of each row of the table


@dataclass(frozen=True, slots=True)
class Shape:
    """A layer (cell, input features, units, layers, both directions) and a batch (sequences,
    steps, whether lengths differ)."""

    cell: str
    inputs: int
    hidden: int
    batch: int
    steps: int
    ragged: bool = False
    layers: int = 1
    both: bool = False

    def layer(self, package: Any, **settings: Any) -> Any:
        """The layer from nn.recurrent or nn.cuda.recurrent."""
        if self.cell.startswith("rnn"):
            settings["nonlinearity"] = "relu" if self.cell == "rnn_relu" else "tanh"
        kind = {"lstm": package.LSTM, "gru": package.GRU}.get(self.cell, package.RNN)
        return kind(self.inputs, self.hidden, self.layers, self.both, seed=1, **settings)

    @property
    def lengths(self) -> Any:
        if not self.ragged:
            return np.full(self.batch, self.steps)
        rng = np.random.default_rng(2)
        return rng.integers(max(1, self.steps // 4), self.steps + 1, self.batch)

    @property
    def offsets(self) -> Any:
        return np.concatenate([[0], np.cumsum(self.lengths)])


# ---- checks


def relative_error(found: Any, expected: Any) -> float:
    """The largest difference, relative to the largest expected number."""
    found = memory.get(found) if hasattr(found, "copy_to_host") else found
    off = np.abs(found - expected).max(initial=0)
    return float(off / max(1e-30, np.abs(expected).max(initial=0)))


def difference(shape: Shape, precision: str = "float32") -> float:
    """The largest relative difference of the device's layer from the CPU's."""
    rng, offsets = np.random.default_rng(3), shape.offsets
    mine, theirs = shape.layer(host), shape.layer(device, precision=precision)
    for value in mine.values.values():
        value += rng.normal(0, 0.05, value.shape)
    theirs.load_state_dict(mine.state_dict())
    x = rng.normal(size=(int(offsets[-1]), shape.inputs)).astype(np.float32)
    y, state = mine.forward_ragged(x, offsets)
    found, last = theirs.forward_ragged(x, offsets)
    pairs = [(found, y), *zip(listed(last), listed(state), strict=True)]
    if precision == "float32" or shape.cell != "rnn_relu":
        dy = rng.normal(size=y.shape).astype(np.float32)
        dx, found_dx = mine.backward_ragged(dy), theirs.backward_ragged(dy)
        pairs += [(found_dx, dx), *zip(listed(theirs.dstate), listed(mine.dstate), strict=True)]
        gradients = theirs.gradients()
        pairs += [(gradients[name], value) for name, value in mine.gradients().items()]
    return max(relative_error(ours, expected) for ours, expected in pairs)


def transformer_difference(
    size: int, heads: int, lengths: list[int], dropout: float, precision: str = "float32"
) -> float:
    """The largest relative difference of two transformer layers of the device from the CPU's."""
    rng, offsets = np.random.default_rng(3), np.concatenate([[0], np.cumsum(lengths)])
    settings: dict[str, Any] = {"dropout": dropout, "attention_dropout": dropout, "eps": 1e-6}
    mine = host_transformer.TransformerEncoder(2, size, heads, 4 * size, **settings)
    theirs = device_transformer.TransformerEncoder(
        2, size, heads, 4 * size, precision=precision, **settings
    )
    for value in mine.values.values():
        value += rng.normal(0, 0.02, value.shape)
    theirs.load_state_dict(mine.state_dict())
    x, dy = (rng.normal(size=(int(offsets[-1]), size)).astype(np.float32) for _ in range(2))
    pairs = [
        (theirs.forward(x, offsets, key=5), mine.forward(x, offsets, key=5)),
        (theirs.backward(dy), mine.backward(dy)),
    ]
    gradients = theirs.gradients()
    # a key's bias is the same in all scores of a row: its gradient is rounding alone
    pairs += [
        (gradients[name], value)
        for name, value in mine.gradients().items()
        if not name.endswith("key.bias")
    ]
    return max(relative_error(ours, expected) for ours, expected in pairs)


def checked_transformers(tiny: bool) -> Iterator[tuple[str, float, float]]:
    """(description, difference, tolerance) of transformer layers, ragged."""
    rng = np.random.default_rng(8)
    if tiny:
        yield "transformer H 8", transformer_difference(8, 2, [3, 9], 0.0), TOLERANCE
        return
    for size, heads in ((384, 12), (768, 12), (256, 2), (120, 6)):
        lengths = rng.integers(1, 200, 9).tolist()
        for dropout in (0.0, 0.1):
            what = f"transformer H {size} heads {heads} dropout {dropout}"
            yield what, transformer_difference(size, heads, lengths, dropout), TOLERANCE
    for precision, allowed in ROUNDED.items():
        off = transformer_difference(768, 12, [100, 30], 0.0, precision)
        yield f"transformer H 768 {precision}", off, 2 * allowed


def listed(state: Any) -> tuple[Any, ...]:
    """The arrays of a state: an LSTM's has two."""
    return state if isinstance(state, tuple) else (state,)


def checked_layers(tiny: bool) -> Iterator[tuple[str, float, float]]:
    """(description, difference, tolerance) of many layers on every path."""
    sizes = [(3, 4, 5, 3)] if tiny else [(17, 33, 9, 12), (100, 128, 37, 40), (64, 256, 70, 20)]
    stacks = [(1, True)] if tiny else [(1, False), (1, True), (3, True)]
    for cell in CELLS[1:3] if tiny else CELLS:
        for inputs, hidden, batch, steps in sizes:
            for layers, both in stacks:
                shape = Shape(cell, inputs, hidden, batch, steps, True, layers, both)
                for path in recurrent.paths(cell, hidden, batch):
                    with patch.object(recurrent, "path_of", lambda *_, path=path: path):
                        yield f"{shape} {path}", difference(shape), TOLERANCE
        for precision, allowed in ROUNDED.items():
            shape = Shape(cell, *(sizes[-1]), True)
            with patch.object(recurrent, "path_of", lambda *_: recurrent.GRID):
                yield f"{shape} {precision}", difference(shape, precision), allowed


def checked_losses(tiny: bool) -> Iterator[tuple[str, float, float]]:
    """(description, difference, tolerance) of twenty losses of each kind of model, one batch an
    epoch."""
    rng = np.random.default_rng(5)
    rows = [
        list(rng.choice(WORDS, n)) for n in rng.integers(1, 4 if tiny else 12, 3 if tiny else 24)
    ]
    tags = [["B-X" if word == "dog" else "O" for word in row] for row in rows]
    texts, labels = [" ".join(row) for row in rows], [int("dog" in row) for row in rows]
    series = np.sin(np.arange(12 if tiny else 60) / 3)
    size = 3 if tiny else 24
    common: dict[str, Any] = {
        "hidden": size,
        "epochs": 2 if tiny else 20,
        "batch_size": 64,
        "threads": 1,
    }
    words: dict[str, Any] = {**common, "embedding": size}
    stream = {"batch_size": 2, "bptt": 200}  # one window of all
    both: dict[str, Any] = {"bidirectional": True, "layers": 1 if tiny else 2}
    kinds: dict[str, Callable[[dict[str, Any]], Any]] = {
        "classifier": lambda how: (
            fastseq.SequenceClassifier(**words, **both, **how).fit(texts, labels)
        ),
        "tagger": lambda how: fastseq.SequenceTagger(**words, crf=True, **how).fit(rows, tags),
        "language": lambda how: fastseq.LanguageModel(**words | stream, **how).fit(texts),
        "forecaster": lambda how: fastseq.Forecaster(**common, window=4, **how).fit(series),
    }  # fmt: skip
    for kind in ("classifier", "forecaster") if tiny else kinds:
        for cell in ("lstm",) if tiny else ("lstm", "gru", "rnn"):
            losses = [
                np.array(
                    kinds[kind]({"cell": cell, "device": place}).history_.columns["train_loss"]
                )
                for place in ("cpu", "cuda")
            ]
            off = relative_error(losses[1], losses[0])
            yield f"{len(losses[0])} losses, {kind} {cell}", off, TOLERANCE


# ---- times


@dataclass(slots=True)
class Timed:
    """Seconds of a forward and backward pass, medians, and the ratio theirs / ours."""

    shape: Shape
    precision: str
    path: str
    ours: float
    theirs: float
    ratio: float


def cudnn(shape: Shape, precision: str) -> Callable[[], None]:
    """A forward and backward pass of PyTorch's layer on the GPU."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(shape.cell, torch.nn.RNN)
    made = layer(shape.inputs, shape.hidden).to("cuda", kind)
    size = (shape.steps, shape.batch, shape.inputs)
    x = torch.randn(size, device="cuda", dtype=kind, requires_grad=True)
    given = x
    if shape.ragged:
        given = pack_padded_sequence(x, torch.tensor(shape.lengths), enforce_sorted=False)
    shaped = made(given)[0]
    dy = torch.randn_like(shaped.data if shape.ragged else shaped)

    def run() -> None:
        made.zero_grad(set_to_none=True)
        x.grad = None
        y = made(given)[0]
        (y.data if shape.ragged else y).backward(dy, retain_graph=shape.ragged)
        torch.cuda.synchronize()

    return run


def ours(shape: Shape, precision: str) -> Callable[[], None]:
    """A forward and backward pass of fastseq's layer on the GPU."""
    layer, rng = shape.layer(device, precision=precision), np.random.default_rng(4)
    offsets = shape.offsets
    x = memory.put(rng.normal(size=(int(offsets[-1]), shape.inputs)).astype(np.float32))
    dy = memory.put(rng.normal(size=(int(offsets[-1]), shape.hidden)).astype(np.float32))

    def run() -> None:
        layer.zero_gradients()
        layer.forward_ragged(x, offsets)
        layer.backward_ragged(dy)
        memory.synchronize()

    return run


def timed(shape: Shape, precision: str, seconds: float) -> Timed:
    """Both sides in alternation, for so many seconds."""
    sides = {"ours": ours(shape, precision), "theirs": cudnn(shape, precision)}
    found = alternate(sides, ROUNDS, seconds)
    path = recurrent.path_of(shape.cell, shape.hidden, shape.batch, precision)
    return Timed(shape, precision, path, found["ours"], found["theirs"],
                 found["theirs"] / found["ours"])  # fmt: skip


def timed_transformer(
    size: int, heads: int, batch: int, length: int, precision: str, seconds: float
) -> dict[str, float]:
    """Seconds of a forward and backward pass of one layer without dropout on sequences of one
    length, both sides in alternation."""
    import torch

    rng, rows = np.random.default_rng(4), batch * length
    offsets = np.arange(batch + 1) * length
    layer = device_transformer.TransformerLayer(
        size, heads, 4 * size, dropout=0.0, attention_dropout=0.0, precision=precision
    )
    x, dy = (memory.put(rng.normal(size=(rows, size)).astype(np.float32)) for _ in range(2))

    def ours() -> None:
        layer.zero_gradients()
        layer.forward(x, offsets)
        layer.backward(dy)
        memory.synchronize()

    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    made = torch.nn.TransformerEncoderLayer(
        size, heads, 4 * size, dropout=0.0, activation="gelu", batch_first=True
    ).to("cuda", kind)
    given = torch.randn(batch, length, size, device="cuda", dtype=kind, requires_grad=True)
    gradient = torch.randn_like(given)

    def theirs() -> None:
        made.zero_grad(set_to_none=True)
        given.grad = None
        made(given).backward(gradient)
        torch.cuda.synchronize()

    return dict(alternate({"ours": ours, "theirs": theirs}, ROUNDS, seconds))


def training(seconds: float) -> dict[str, Any]:
    """Tokens per second of a classifier's training on either device."""
    rng = np.random.default_rng(6)
    texts = [" ".join(rng.choice(WORDS, n)) for n in rng.integers(5, 60, 4000)]
    labels = [int("dog" in text) for text in texts]
    found: dict[str, Any] = {}
    for place in ("cpu", "cuda"):
        model = fastseq.SequenceClassifier(
            hidden=128, embedding=128, bidirectional=True, epochs=3, batch_size=64, device=place
        ).fit(texts, labels)
        assert model.history_ is not None
        found[place] = model.history_.columns["units_per_second"][-1]
    return found


def search(seconds: float) -> dict[str, Any]:
    """Seconds for a thousand queries over 200,000 short documents, one CPU thread and the GPU."""
    rng = np.random.default_rng(7)
    vocabulary = np.array([f"word{i}" for i in range(50_000)])
    ranks = np.minimum(rng.zipf(1.2, 200_000 * 40) - 1, len(vocabulary) - 1)
    documents = [" ".join(vocabulary[part]) for part in ranks.reshape(-1, 40)]
    queries = [" ".join(vocabulary[rng.integers(50, 5000, 4)]) for _ in range(1000)]
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place) / "corpus.parquet"
        pq.write_table(pa.table({"id": np.arange(len(documents)), "text": documents}), corpus)
        words = fastseq.Analyzer(tokenizer="word")
        index = fastseq.Index.build(corpus, Path(place) / "index", analyzer=words)
        hits = [index.search(queries, k=100, threads=1, device=way) for way in ("cpu", "cuda")]
        same = all(
            np.array_equal(getattr(hits[0], n), getattr(hits[1], n)) for n in ("rows", "scores")
        )
        ways = {
            way: partial(index.search, queries, k=100, threads=1, device=way)
            for way in ("cpu", "cuda")
        }
        found = alternate(ways, ROUNDS, seconds)
    return {"same": same, **found, "ratio": found["cpu"] / found["cuda"]}
