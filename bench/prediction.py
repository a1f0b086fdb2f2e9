"""`fastseq predict` beside PyTorch: tokens a second through a trained classifier and tagger.

    python bench/prediction.py --classify sst2/train.parquet --tag ud_ewt/train.parquet

A bidirectional LSTM of 128 on embeddings of 128 with max pooling, and a tagger of the same layers,
trained for an epoch on 2,000 rows; then every row of the file is predicted. fastseq does all that
the command does but writing: read Parquet, tokenise, look up, run the network, make Arrow tables of
labels and probabilities. PyTorch runs the network alone, on the same weights: it is given batches
of ids, sorted by length as fastseq sorts them, and only the largest score is asked for. It runs in
each of the ways of bench/torch_models.py, and the quickest that is right is timed.

Checked first: PyTorch's labels are fastseq's but for 1 in 1,000 (1 in 50 where its backward
direction reads the padding).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
import numpy as np
import pyarrow.parquet as pq
import torch
import torch_models
from harness import Check, Contender

from fastseq.models.classifier import SequenceClassifier
from fastseq.models.data.batches import SortedBatches, take
from fastseq.models.scoring import ROWS_AT_ONCE, UNITS_AT_ONCE
from fastseq.models.tagger import SequenceTagger
from fastseq.threads import Team

ASKED = 1.0
TRAINED_ON = 2000
SETTINGS: dict[str, Any] = {"bidirectional": True, "hidden": 128, "embedding": 128, "epochs": 1}
KINDS: dict[str, tuple[Callable[..., Any], tuple[str, str]]] = {
    "classify": (SequenceClassifier, ("text", "label")),
    "tag": (SequenceTagger, ("tokens", "tags")),
}


def main() -> int:
    options = parse()
    torch.set_num_threads(options.threads)
    facts = harness.machine_facts(("torch",))
    print(f"{harness.machine_lines(facts, options.threads)}\n")
    report: dict[str, Any] = {"bench": "prediction", "machine": facts, "results": {}}
    failed = False
    for name in KINDS:
        path: Path | None = getattr(options, name)
        if path is None:
            continue
        found, tokens = measure(name, path, options)
        print(f"\n{name}, {tokens:,} tokens\n" + harness.rate_table(found, tokens, "fastseq", "/s"))
        others = [other for other in found.timings if other != "fastseq"]
        ratio = found.ratio(others[0], "fastseq") if others else float("nan")
        print(f"{'reached' if ratio >= ASKED else 'MISSED '}  {ratio:.2f} (asked {ASKED})")
        failed = failed or not ratio >= ASKED
        report["results"][name] = found.to_dict(tokens)
    harness.write_report("prediction", report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--classify", type=harness.existing, help="Parquet: text, label")
    parser.add_argument("--tag", type=harness.existing, help="Parquet: tokens, tags")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="of both")
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    options = parser.parse_args()
    if options.classify is None and options.tag is None:
        parser.error("give --classify, --tag or both")
    return options


def measure(name: str, path: Path, options: argparse.Namespace) -> tuple[harness.Comparison, int]:
    """The comparison, and the tokens of the file."""
    kind, columns = KINDS[name]
    few = pq.read_table(path, columns=list(columns)).slice(0, TRAINED_ON)
    model = kind(**SETTINGS, threads=options.threads)
    task = model._task(few, None, None, {}, Team(options.threads))
    model.fit(few)
    task.parameters.load_state_dict(model.learned.network.parameters.state_dict())
    learned = model.learned
    examples = learned.encoder.read(model._open(path, None, {}, targets=False))
    sorted_batches = SortedBatches(examples.offsets, ROWS_AT_ONCE, UNITS_AT_ONCE)
    batches = [take(examples, rows) for rows in sorted_batches]
    names = np.array(learned.labels.values, object)

    def ours() -> list[Any]:
        found: list[Any] = []
        for table in model.predict_batches(path):
            found += table["prediction"].to_pylist()
        return found

    def theirs(way: str) -> Callable[[], list[Any]]:
        network = torch_models.twin(model, task, way).eval()

        def run() -> list[Any]:
            with torch.inference_mode():
                return [network.scores(batch).argmax(1).numpy() for batch in batches]

        return run

    expected: list[Any] = []

    def remember(found: list[Any]) -> Check:
        expected.extend(found)
        return Check(len(found) > 0, f"{len(found):,} rows")

    def alike(least: float) -> Callable[[list[Any]], Check]:
        def check(found: list[Any]) -> Check:
            right = total = 0
            for batch, best in zip(batches, found, strict=True):
                rows = [expected[row] for row in examples.rows[batch.rows]]
                labels = rows if name == "classify" else [tag for row in rows for tag in row]
                right += sum(a == b for a, b in zip(labels, names[best], strict=True))
                total += len(labels)
            return Check(right / total >= least, f"{right / total:.2%} as fastseq")

        return check

    ways = [
        Contender(f"PyTorch, {way}", theirs(way), alike(0.98 if way == "padded" else 0.999))
        for way in torch_models.WAYS
    ]
    remember(ours())
    quickest = harness.fastest(ways)
    expected.clear()
    tell = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    contenders = [Contender("fastseq", ours, remember), quickest]
    tokens = sum(len(batch.values) for batch in batches)
    return harness.compare(contenders, options.rounds, tell=tell), tokens


if __name__ == "__main__":
    sys.exit(main())
