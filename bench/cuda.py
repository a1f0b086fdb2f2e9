"""Recurrent layers on the GPU: checked against the CPU's, then timed beside cuDNN through PyTorch.

    python bench/cuda.py -o cuda.json          # checks, then the table of times
    python bench/cuda.py --check               # checks alone; without a GPU in Numba's simulator:
    NUMBA_ENABLE_CUDASIM=1 python bench/cuda.py --check --tiny

Checked are outputs, states, the gradients of inputs, initial states and all parameters, of every
cell, forwards and backwards, with ragged lengths, on both paths (one multiprocessor, step by
step): within 1e-4 of the CPU's largest. A sample of time is a forward and a backward pass with all
gradients, of one direction of one layer, I = H, waited for at its end; both sides in turns,
medians. float32 with TF32 off on both sides; "tf32" and "bfloat16" are cuDNN's whole layer, and
here the products around the time loop. Ragged: lengths drawn evenly from T/4 to T, PyTorch's
sequences packed (packing not counted).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# this file's folder has a "cuda" in it, which NVIDIA's package of that name must not be taken for
sys.path[:] = [
    place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent
]

import numpy as np  # noqa: E402

from fastseq.devices import cuda_problem  # noqa: E402

if (problem := cuda_problem()) is not None:
    sys.exit(f"Error: {problem}")

from fastseq.kernels.cuda import gemm, memory, recurrent, sequences, sums  # noqa: E402
from fastseq.nn import GRU, LSTM, RNN  # noqa: E402
from fastseq.nn.sequences import lay_out  # noqa: E402

TOLERANCE = 1e-4
CELLS = ("lstm", "gru", "rnn", "rnn_relu")
TIMED = [(cell, H, B, 256) for cell in ("lstm", "gru") for H in (64, 128, 192, 256, 512)
         for B in (64, 256, 1024)] + [("lstm", 768, 16, 1024)]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """cell, features in and units, sequences, steps, whether lengths differ, which direction."""

    cell: str
    inputs: int
    hidden: int
    batch: int
    steps: int
    ragged: bool
    reverse: bool = False


@dataclass(slots=True)
class Timed:
    """Seconds of a forward and backward pass, medians, and the ratio theirs / ours."""

    shape: Shape
    precision: str
    path: str
    ours: float
    theirs: float
    ratio: float


class DeviceLayer:
    """One direction of one layer on the device, its memory taken once for a batch's shape."""

    def __init__(self, shape: Shape, lengths: Any, values: dict[str, Any], precision: str) -> None:
        self.shape, self.precision = shape, precision
        H, slots = shape.hidden, recurrent.SLOTS[shape.cell]
        self.width = recurrent.GATES[shape.cell] * H
        firsts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        layout = lay_out(np.asarray(lengths), firsts, 1, 1)
        self.order, N, B = layout.order, layout.count, shape.batch
        self.packed = layout.rows
        self.rows = memory.put(layout.rows.astype(np.int32))
        self.steps = recurrent.steps_of(layout.slices[0].starts, layout.slices[0].counts)
        self.values = {name: memory.put(value) for name, value in values.items()}
        bias = values["bias_ih"] + values["bias_hh"]
        self.hidden_bias = None
        if shape.cell == "gru":
            bias[2 * H :] = values["bias_ih"][2 * H :]
            self.hidden_bias = memory.put(values["bias_hh"][2 * H :])
        self.bias = memory.put(bias)
        self.x, self.dx = memory.empty((N, shape.inputs)), memory.empty((N, shape.inputs))
        self.y, self.dy = memory.empty((N, H)), memory.empty((N, H))
        self.gates = memory.empty((N, slots * H))
        states = recurrent.STATES[shape.cell]
        self.before = [memory.empty((N, H)) for _ in range(states)]
        self.state = [memory.empty((B, H)) for _ in range(states)]
        self.dstate = [memory.empty((B, H)) for _ in range(states)]
        self.slopes = {name: memory.zeros(value.shape) for name, value in values.items()}

    def forward(self) -> None:
        """y and the last state, of x and a state of zeros."""
        for array in self.state:
            sequences.fill(array, 0)
        gemm.multiply(
            gemm.window(self.gates, 0, self.width), self.x, self.values["weight_ih"],
            transpose_b=True, bias=self.bias, precision=self.precision,
        )  # fmt: skip
        recurrent.forward(
            self.shape.cell, self.y, 0, self.state, self.gates, self.before,
            self.values["weight_hh"], self.hidden_bias, self.rows, self.steps, self.shape.reverse,
            precision=self.precision,
        )  # fmt: skip

    def backward(self) -> None:
        """dx and all gradients, of dy and a gradient of zeros of the last state."""
        shape, H = self.shape, self.shape.hidden
        for array in self.dstate:
            sequences.fill(array, 0)
        recurrent.backward(
            shape.cell, self.gates, self.dstate, self.dy, 0, self.before,
            self.values["weight_hh"], self.rows, self.steps, shape.reverse, self.precision,
        )  # fmt: skip
        of_input = gemm.window(self.gates, 0, self.width)
        options: Any = {"transpose_a": True, "precision": self.precision}
        gemm.multiply(self.slopes["weight_ih"], of_input, self.x, **options)
        sums.column_sums(self.slopes["bias_ih"], of_input, add=False)
        to, bias = self.slopes["weight_hh"], self.slopes["bias_hh"]
        parts = [(0, self.width, 0)]  # columns of the gates, and rows of the weight from there on
        if shape.cell == "gru":
            parts = [(0, 2 * H, 0), (3 * H, 4 * H, 2 * H)]
        for first, last, row in parts:
            rows = slice(row, row + last - first)
            gemm.multiply(to[rows], gemm.window(self.gates, first, last), self.before[0], **options)
            sums.column_sums(bias[rows], gemm.window(self.gates, first, last), add=False)
        gemm.multiply(self.dx, of_input, self.values["weight_ih"], precision=self.precision)

    def __call__(self) -> None:
        self.forward()
        self.backward()
        memory.synchronize()


def host_layer(shape: Shape) -> Any:
    """The CPU's layer of this shape."""
    settings: dict[str, Any] = {"bidirectional": shape.reverse, "seed": 1}
    if shape.cell.startswith("rnn"):
        settings["nonlinearity"] = "relu" if shape.cell == "rnn_relu" else "tanh"
    kind = {"lstm": LSTM, "gru": GRU}.get(shape.cell, RNN)
    return kind(shape.inputs, shape.hidden, **settings)


def lengths_of(shape: Shape) -> Any:
    if not shape.ragged:
        return np.full(shape.batch, shape.steps)
    rng = np.random.default_rng(2)
    return rng.integers(max(1, shape.steps // 4), shape.steps + 1, shape.batch)


def difference(shape: Shape) -> float:
    """The largest difference of the device from the CPU, in parts of the CPU's largest number."""
    lengths, rng = lengths_of(shape), np.random.default_rng(3)
    layer, H = host_layer(shape), shape.hidden
    suffix = "l0_reverse" if shape.reverse else "l0"
    for value in layer.values.values():
        value += rng.normal(0, 0.1, value.shape)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    x = rng.normal(size=(int(offsets[-1]), shape.inputs)).astype(np.float32)
    whole_dy = np.zeros((len(x), layer.output_size), np.float32)
    dy = whole_dy[:, -H:]
    dy[...] = rng.normal(size=dy.shape)
    y, state = layer.forward_ragged(x, offsets)
    dx = layer.backward_ragged(whole_dy)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    values = {name: layer.values[f"{name}_{suffix}"] for name in names}
    device = DeviceLayer(shape, lengths, values, "float32")
    memory.put(x[device.packed], device.x)
    memory.put(dy, device.dy)
    device()
    pairs = [(device.y, y[:, -H:]), (device.dx, dx[device.packed])]
    for mine, parts in ((device.state, state), (device.dstate, layer.dstate)):
        parts = parts if isinstance(parts, tuple) else (parts,)
        pairs += [(a, b[-1][device.order]) for a, b in zip(mine, parts, strict=True)]
    pairs += [(device.slopes[name], layer.slopes[f"{name}_{suffix}"]) for name in names]
    return max(
        float(np.abs(memory.get(mine) - theirs).max() / max(1e-30, np.abs(theirs).max()))
        for mine, theirs in pairs
    )


def checked(tiny: bool) -> Iterator[tuple[Shape, str, float]]:
    """The differences of many shapes on both paths."""
    sizes = [(3, 4, 5, 3)] if tiny else [(17, 33, 9, 12), (64, 64, 64, 50), (100, 128, 37, 40)]
    plans = recurrent._plans
    for cell in CELLS:
        for inputs, hidden, batch, steps in sizes:
            for reverse in (False, True):
                shape = Shape(cell, inputs, hidden, batch, steps, True, reverse)
                yield shape, recurrent.path_of(cell, hidden), difference(shape)
                recurrent._plans = lambda *_: None
                try:
                    yield shape, recurrent.STEP_BY_STEP, difference(shape)
                finally:
                    recurrent._plans = plans


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
        given = pack_padded_sequence(x, torch.tensor(lengths_of(shape)), enforce_sorted=False)
    shaped = made(given)[0]
    dy = torch.randn_like(shaped.data if shape.ragged else shaped)

    def run() -> None:
        made.zero_grad(set_to_none=True)
        x.grad = None
        y = made(given)[0]
        (y.data if shape.ragged else y).backward(dy, retain_graph=shape.ragged)
        torch.cuda.synchronize()

    return run


def timed(shape: Shape, precision: str, seconds: float) -> Timed:
    """Both sides in turns, for so many seconds."""
    lengths, rng = lengths_of(shape), np.random.default_rng(4)
    layer = host_layer(shape)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ours = DeviceLayer(shape, lengths, {n: layer.values[f"{n}_l0"] for n in names}, precision)
    for array in (ours.x, ours.dy):
        memory.put(rng.normal(size=array.shape).astype(np.float32), array)
    theirs = cudnn(shape, precision)
    taken: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(3):
        ours()
        theirs()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(taken["ours"]) < 5:
        for name, run in (("ours", ours), ("theirs", theirs)):
            then = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - then)
    mine, other = (statistics.median(taken[name]) for name in ("ours", "theirs"))
    path = recurrent.path_of(shape.cell, shape.hidden)
    return Timed(shape, precision, path, mine, other, other / mine)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="check, and time nothing")
    parser.add_argument("--tiny", action="store_true", help="check a shape for the simulator")
    parser.add_argument("--precision", nargs="+", default=["float32", "tf32", "bfloat16"])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row of the table")
    parser.add_argument("-o", "--output", type=Path, help="write everything as JSON")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"checks": [], "times": []}
    wrong = 0
    for shape, path, off in checked(options.tiny):
        good = off <= TOLERANCE
        wrong += not good
        found["checks"].append({"shape": asdict(shape), "path": path, "difference": off})
        print(f"{shape} {path}: {off:.1e}{'' if good else ' WRONG'}", flush=True)
    if wrong:
        print(f"{wrong} results differ by more than {TOLERANCE}", file=sys.stderr)
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
                        f"{row.ratio:.2f} times ({row.path})",
                        flush=True,
                    )
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
