"""Everything on the GPU: checked against the CPU, then timed against cuDNN through PyTorch.

    python -m bench.gpu --training --search      # checks, then all tables
    python -m bench.gpu --check                  # checks alone
    python -m bench.gpu --small                  # checks at tiny sizes; without a GPU in Numba's
                                                 # CUDA simulator

Checks: (a) on a GPU the tests of tests/cuda, which compare every kernel and layer with the CPU's at
small sizes; (b) recurrent layers at real sizes, of every cell, in one and two layers and
directions, ragged, on every path their size allows: outputs, states, the gradients of inputs,
initial states and all parameters within 1e-4 of the CPU's largest, and on tensor cores within 5e-3
(tf32) and 5e-2 (bfloat16), of ReLU networks outputs and states alone: rounding moves a few units in
ten thousand to the other side of zero, where the gradient differs; (c) two transformer layers at
real sizes, ragged, likewise; (d) twenty losses of a classifier, a tagger with a CRF, a language
model and a forecaster of every cell, within 1e-4.

Times: a sample is a forward and a backward pass of one layer with all gradients, I = H, up to the
synchronisation at its end; both sides in alternation, medians. float32 with TF32 off on both sides;
"tf32" and "bfloat16" are cuDNN's whole layer in that precision. Ragged: lengths uniform from T/4 to
T, PyTorch's sequences packed (packing not counted). Transformer layers are timed against PyTorch's
TransformerEncoderLayer on sequences of one length, without dropout. `--training` times whole epochs
of a classifier on the CPU and the GPU; `--search` batches of queries on one thread and on the GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from bench.common.report import ROOT, Parser, Report, optional
from fastseq.devices import cuda_problem, simulated


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if (problem := cuda_problem()) is not None:
        if not options.small:
            print(f"Error: {problem}", file=sys.stderr)
            return 1
        print(f"{problem}: in the simulator", flush=True)
        command = [sys.executable, "-m", "bench.gpu", "--small"]
        simulator = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
        return subprocess.run(command, cwd=ROOT, env=simulator).returncode
    report = Report("gpu", options, ("torch",))
    check(options, report)
    if not (report.wrong or options.check):
        measure(options, report)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"check": True})
    parser.add_argument("--check", action="store_true", help="check, and time nothing")
    parser.add_argument("--precision", nargs="+", default=["float32", "tf32", "bfloat16"])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row of the table")
    parser.add_argument("--training", action="store_true", help="time training too")
    parser.add_argument("--search", action="store_true", help="time queries too")
    return parser.parse(arguments)


def check(options: argparse.Namespace, report: Report) -> None:
    """Compare the GPU with the CPU."""
    from bench.common import device

    if not simulated():
        tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cuda"]
        ran = subprocess.run(tests, cwd=ROOT, env=os.environ | {"FASTSEQ_GPU": "1"})
        report.check(ran.returncode == 0, "tests/cuda")
    differences = report.results["differences"] = {}
    for some in (device.checked_layers, device.checked_transformers, device.checked_losses):
        for what, difference, tolerance in some(options.small):
            differences[what] = difference
            print(f"{what}: {difference:.1e}", flush=True)
            report.check(difference <= tolerance, f"{what}: {difference:.1e} from the CPU")


def measure(options: argparse.Namespace, report: Report) -> None:
    """Time layers, and whole trainings and searches where asked for."""
    from bench.common import device

    torch = optional("torch")
    if torch is not None:
        print(torch.cuda.get_device_name())
        report.results["device"] = torch.cuda.get_device_name()
        times = report.results["times"] = []
        for precision in options.precision:
            for cell, H, B, T in device.TIMED:
                for ragged in (False, True):
                    shape = device.Shape(cell, H, H, B, T, ragged)
                    row = device.timed(shape, precision, options.seconds)
                    times.append(asdict(row))
                    print(
                        f"{precision} {cell} H {H} B {B} T {T}{' ragged' if ragged else ''}: "
                        f"{row.ours * 1e3:.3f} ms, cuDNN {row.theirs * 1e3:.3f} ms, "
                        f"speed-up {row.ratio:.2f} ({row.path}), "
                        f"{row.ours / T * 1e6:.2f} µs per step",
                        flush=True,
                    )
        layers = report.results["transformers"] = []
        for precision in options.precision:
            for H, heads, B, n in device.TRANSFORMERS:
                found = device.timed_transformer(H, heads, B, n, precision, options.seconds)
                layers.append(
                    {"H": H, "heads": heads, "B": B, "n": n, "precision": precision, **found}
                )
                print(
                    f"{precision} transformer H {H} heads {heads} B {B} n {n}: "
                    f"{found['ours'] * 1e3:.3f} ms, PyTorch {found['theirs'] * 1e3:.3f} ms, "
                    f"speed-up {found['theirs'] / found['ours']:.2f}",
                    flush=True,
                )
    for name in ("training", "search"):
        if getattr(options, name):
            report.results[name] = found = getattr(device, name)(options.seconds)
            print(name, found, flush=True)
            report.check(found.get("same", True), f"{name}: not the CPU's hits")


if __name__ == "__main__":
    sys.exit(main())
