"""Golden states: what PyTorch computes for small layers and models, for tests to match.

    python -m bench.golden [FOLDER]

Writes recurrent/layers.npz and recurrent/losses.npz (common/golden.py describes them) to
tests/golden, or FOLDER, and where transformers is installed transformer/bert.npz
(common/golden_bert.py), transformer/finetuning.npz (common/golden_finetuning.py),
transformer/tasks.npz (common/golden_tasks.py) and transformer/roberta.npz
(common/golden_roberta.py). tests/nn/test_nn_golden.py, test_nn_golden_bert.py,
tests/models/test_bert_finetuning.py, test_bert_tasks.py and test_bert_roberta.py read them
without PyTorch. They are made once for a version of PyTorch; a run with another may differ in
the last digits, which the tests' tolerance covers.
--small writes nothing and compares with the files that are there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.common.report import ROOT, Parser, Report, optional

FOLDER = ROOT / "tests" / "golden"
TOLERANCE = 1e-4


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(__doc__, threads=1)
    parser.add_argument("target", metavar="FOLDER", nargs="?", type=Path, default=FOLDER)
    options = parser.parse(arguments)
    report = Report("golden", options, ("torch", "transformers"))
    if optional("torch") is None:
        return report.end()
    from bench.common import golden

    files = {"recurrent/layers": golden.layers, "recurrent/losses": golden.losses}
    if optional("transformers") is not None:
        from bench.common import golden_bert, golden_finetuning, golden_roberta, golden_tasks

        files["transformer/bert"] = golden_bert.bert
        files["transformer/finetuning"] = golden_finetuning.finetuning
        files["transformer/tasks"] = golden_tasks.tasks
        files["transformer/roberta"] = golden_roberta.roberta
    for name, make in files.items():
        path, made = options.target / f"{name}.npz", make()
        if options.small:
            compare(path, made, report)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **made)  # type: ignore[arg-type]
        print(f"{path}: {len(made)} arrays, {path.stat().st_size:,} bytes")
    return report.end()


def compare(path: Path, made: dict[str, np.ndarray], report: Report) -> None:
    """Compare with the arrays of a file."""
    kept = dict(np.load(path))
    report.check(kept.keys() == made.keys(), f"{path.name}: other arrays")
    worst = 0.0
    for name in (name for name in kept.keys() & made.keys() if kept[name].dtype.kind != "U"):
        largest = max(1e-6, float(np.abs(kept[name]).max(initial=0)))
        worst = max(worst, float(np.abs(kept[name] - made[name]).max(initial=0)) / largest)
    print(f"{path.name}: {len(made)} arrays, at most {worst:.1e} from those in {path.parent}")
    report.check(worst <= TOLERANCE, f"{path.name}: {worst:.1e}")


if __name__ == "__main__":
    sys.exit(main())
