"""Everything on the GPU: checked against the CPU, then timed beside cuDNN through PyTorch.

    python bench/cuda.py -o cuda.json          # checks, then the tables
    python bench/cuda.py --check               # checks alone; without a GPU in Numba's simulator:
    NUMBA_ENABLE_CUDASIM=1 python bench/cuda.py --check --tiny

Checks: (a) on a GPU the tests of tests/cuda, which compare every kernel and layer with its twin on
the CPU at small sizes; (b) recurrent layers at real sizes, of every cell, in one and two layers and
directions, ragged, on every path their size allows: outputs, states, the gradients of inputs,
initial states and all parameters within 1e-4 of the CPU's largest, and on tensor cores within 5e-3
(tf32) and 5e-2 (bfloat16), of ReLU networks outputs and states alone: a few units in ten thousand,
rounded, come out on the other side of zero and have another gradient; (c) twenty losses of a
classifier, a tagger with a CRF, a language model and a forecaster of every cell, within 1e-4.

Times: a sample is a forward and a backward pass of one layer with all gradients, I = H, waited for
at its end; both sides in turns, medians. float32 with TF32 off on both sides; "tf32" and "bfloat16"
are cuDNN's whole layer in that precision. Ragged: lengths drawn evenly from T/4 to T, PyTorch's
sequences packed (packing not counted). `--training` times whole epochs of a classifier on the CPU
and the GPU; `--search` batches of queries on one thread and on the GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# this file's folder has a "cuda" in it, which NVIDIA's package of that name must not be taken for
sys.path[:] = [place for place in sys.path if Path(place).resolve() != HERE]

import numpy as np  # noqa: E402

from fastseq.devices import cuda_problem, simulated  # noqa: E402

if (problem := cuda_problem()) is not None:
    sys.exit(f"Error: {problem}")

from fastseq.kernels.cuda.recurrent import recurrent  # noqa: E402
from fastseq.kernels.cuda.runtime import memory  # noqa: E402
from fastseq.models.classifier import SequenceClassifier  # noqa: E402
from fastseq.models.forecaster import Forecaster  # noqa: E402
from fastseq.models.language import LanguageModel  # noqa: E402
from fastseq.models.tagger import SequenceTagger  # noqa: E402
from fastseq.nn import recurrent as host  # noqa: E402
from fastseq.nn.cuda import recurrent as device  # noqa: E402

TOLERANCE = 1e-4
ROUNDED = {"tf32": 5e-3, "bfloat16": 5e-2}  # of factors rounded at every step
CELLS = ("lstm", "gru", "rnn", "rnn_relu")
TIMED = [(cell, H, B, 256) for cell in ("lstm", "gru") for H in (64, 128, 192, 256, 512)
         for B in (64, 256, 1024)] + [("lstm", 768, 16, 1024)]  # fmt: skip
WORDS = ("the", "a", "dog", "cat", "barks", "sleeps", "here", "there", "never", "often")


@dataclass(frozen=True, slots=True)
class Shape:
    """A layer (cell, features in, units, layers, whether in both directions) and a batch
    (sequences, steps, whether lengths differ)."""

    cell: str
    inputs: int
    hidden: int
    batch: int
    steps: int
    ragged: bool = False
    layers: int = 1
    both: bool = False

    def layer(self, room: Any, **settings: Any) -> Any:
        """The layer out of nn.recurrent or nn.cuda.recurrent."""
        if self.cell.startswith("rnn"):
            settings["nonlinearity"] = "relu" if self.cell == "rnn_relu" else "tanh"
        kind = {"lstm": room.LSTM, "gru": room.GRU}.get(self.cell, room.RNN)
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


def far(found: Any, expected: Any) -> float:
    """The largest difference, in parts of the largest number expected."""
    found = memory.get(found) if hasattr(found, "copy_to_host") else found
    off = np.abs(found - expected).max(initial=0)
    return float(off / max(1e-30, np.abs(expected).max(initial=0)))


def difference(shape: Shape, precision: str = "float32") -> float:
    """The largest difference of the device's layer from the CPU's."""
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
        slopes = theirs.gradients()
        pairs += [(slopes[name], slope) for name, slope in mine.gradients().items()]
    return max(far(ours, expected) for ours, expected in pairs)


def listed(state: Any) -> tuple[Any, ...]:
    """The arrays of a state: an LSTM's has two."""
    return state if isinstance(state, tuple) else (state,)


def checked_layers(tiny: bool) -> Iterator[tuple[str, float, float]]:
    """The differences of many layers on every path, and what is allowed."""
    sizes = [(3, 4, 5, 3)] if tiny else [(17, 33, 9, 12), (100, 128, 37, 40), (64, 256, 70, 20)]
    stacks = [(1, True)] if tiny else [(1, False), (1, True), (3, True)]
    for cell in CELLS:
        for inputs, hidden, batch, steps in sizes:
            for layers, both in stacks:
                shape = Shape(cell, inputs, hidden, batch, steps, True, layers, both)
                for path in recurrent.paths(cell, hidden, batch):
                    with recurrent.forced(path):
                        yield f"{shape} {path}", difference(shape), TOLERANCE
        for precision, allowed in ROUNDED.items():
            shape = Shape(cell, *(sizes[-1]), True)
            with recurrent.forced(recurrent.GRID):
                yield f"{shape} {precision}", difference(shape, precision), allowed


def checked_losses(tiny: bool) -> Iterator[tuple[str, float, float]]:
    """Twenty losses of each kind of model, one batch an epoch."""
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
    both = {"bidirectional": True, "layers": 1 if tiny else 2}
    kinds: dict[str, Callable[[dict[str, Any]], Any]] = {
        "classifier": lambda how: SequenceClassifier(**words, **both, **how).fit(texts, labels),
        "tagger": lambda how: SequenceTagger(**words, crf=True, **how).fit(rows, tags),
        "language": lambda how: LanguageModel(**words | stream, **how).fit(texts),
        "forecaster": lambda how: Forecaster(**common, window=4, **how).fit(series),
    }  # fmt: skip
    for kind, fitted in kinds.items():
        for cell in ("lstm",) if tiny else ("lstm", "gru", "rnn"):
            losses = [
                np.array(fitted({"cell": cell, "device": place}).history_.columns["train_loss"])
                for place in ("cpu", "cuda")
            ]
            yield f"{len(losses[0])} losses, {kind} {cell}", far(losses[1], losses[0]), TOLERANCE


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
    """The same of this project's layer."""
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


def in_turns(runs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The median seconds of each, after three rounds that do not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(3):
        for run in runs.values():
            run()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(taken[next(iter(runs))]) < 5:
        for name, run in runs.items():
            then = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - then)
    return {name: statistics.median(each) for name, each in taken.items()}


def timed(shape: Shape, precision: str, seconds: float) -> Timed:
    """Both sides in turns, for so many seconds."""
    found = in_turns({"ours": ours(shape, precision), "theirs": cudnn(shape, precision)}, seconds)
    path = recurrent.path_of(shape.cell, shape.hidden, shape.batch, precision)
    return Timed(shape, precision, path, found["ours"], found["theirs"],
                 found["theirs"] / found["ours"])  # fmt: skip


def training(seconds: float) -> dict[str, Any]:
    """Units a second of a classifier's training on either device."""
    rng = np.random.default_rng(6)
    texts = [" ".join(rng.choice(WORDS, n)) for n in rng.integers(5, 60, 4000)]
    labels = [int("dog" in text) for text in texts]
    found: dict[str, Any] = {}
    for place in ("cpu", "cuda"):
        model = SequenceClassifier(
            hidden=128, embedding=128, bidirectional=True, epochs=3, batch_size=64, device=place
        ).fit(texts, labels)
        found[place] = model.history_.columns["units_per_second"][-1]
    return found


def search(seconds: float) -> dict[str, Any]:
    """Seconds for a thousand queries over 200,000 short documents, one CPU thread and the GPU."""
    import tempfile

    import pyarrow as pa
    import pyarrow.parquet as pq

    import fastseq

    rng = np.random.default_rng(7)
    vocabulary = np.array([f"word{i}" for i in range(50_000)])
    ranks = np.minimum(rng.zipf(1.2, 200_000 * 40) - 1, len(vocabulary) - 1)
    documents = [" ".join(vocabulary[part]) for part in ranks.reshape(-1, 40)]
    queries = [" ".join(vocabulary[rng.integers(50, 5000, 4)]) for _ in range(1000)]
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place) / "corpus.parquet"
        pq.write_table(pa.table({"id": np.arange(len(documents)), "text": documents}), corpus)
        index = fastseq.Index.build(corpus, Path(place) / "index")
        hits = [index.search(queries, k=100, threads=1, device=way) for way in ("cpu", "cuda")]
        same = all(
            np.array_equal(getattr(hits[0], n), getattr(hits[1], n)) for n in ("rows", "scores")
        )
        found = in_turns(
            {
                way: (lambda way=way: index.search(queries, k=100, threads=1, device=way))
                for way in ("cpu", "cuda")
            },
            seconds,
        )
    return {"same": same, **found, "ratio": found["cpu"] / found["cuda"]}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="check, and time nothing")
    parser.add_argument("--tiny", action="store_true", help="check sizes for the simulator")
    parser.add_argument("--precision", nargs="+", default=["float32", "tf32", "bfloat16"])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row of the table")
    parser.add_argument("--training", action="store_true", help="time training too")
    parser.add_argument("--search", action="store_true", help="time queries too")
    parser.add_argument("-o", "--output", type=Path, help="write everything as JSON")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"checks": {}, "times": []}
    wrong = 0
    if not simulated():
        tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cuda"]
        wrong += (
            subprocess.run(
                tests, cwd=HERE.parent, env={**os.environ, "FASTSEQ_GPU": "1"}
            ).returncode
            != 0
        )
    for some in (checked_layers, checked_losses):
        for what, off, allowed in some(options.tiny):
            good = off <= allowed
            wrong += not good
            found["checks"][what] = off
            print(f"{what}: {off:.1e}{'' if good else ' WRONG'}", flush=True)
    if wrong:
        print(f"{wrong} checks failed", file=sys.stderr)
    elif not options.check:
        import torch

        found["device"] = torch.cuda.get_device_name()
        print(found["device"])
        for precision in options.precision:
            for cell, H, B, T in TIMED:
                for ragged in (False, True):
                    row = timed(Shape(cell, H, H, B, T, ragged), precision, options.seconds)
                    found["times"].append(asdict(row))
                    print(
                        f"{precision} {cell} H {H} B {B} T {T}{' ragged' if ragged else ''}: "
                        f"{row.ours * 1e3:.3f} ms, cuDNN {row.theirs * 1e3:.3f} ms, "
                        f"{row.ratio:.2f} times ({row.path}), {row.ours / T * 1e6:.2f} µs a step",
                        flush=True,
                    )
        for name, wanted, measure in (
            ("training", options.training, training),
            ("search", options.search, search),
        ):
            if wanted:
                found[name] = measure(options.seconds)
                print(name, found[name], flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
