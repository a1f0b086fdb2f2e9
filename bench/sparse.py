"""Learned-sparse search by a masked-language model (SPLADE): effectiveness, and speed of encoding.

    python -m bench.sparse --model CHECKPOINT --data DATA

A collection is encoded by `fastseq embed --sparse`, indexed by `index --impacts` and searched by
`search --sparse`, at 256 tokens. Tokens per CPU second are those of a part of the collection;
PyTorch, where transformers is installed, gets the same ids in batches of 32 sorted by length, and
its weights are compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.common import commands, small
from bench.common.report import Parser, Report, optional
from fastseq import SparseEncoder

BATCH = 32
TOLERANCE = 1e-4  # of weights, between PyTorch's and ours
QUALITY = {"ir/scifact": (0.6436, 0.002)}  # nDCG@10 of SPLADE-tiny, and what it may be off
TARGET = 2.0  # times PyTorch's tokens


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("sparse", options, ("torch", "transformers"))
    for collection in options.collections:
        quality(options, report, options.data / collection, QUALITY.get(collection))
    speed(options, report, options.data / options.collections[0])
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    tiny = {"model": small.checkpoint(), "rows": 20, "max_length": 64}
    parser = Parser(__doc__, threads=1, small=tiny)
    parser.add_argument("--model", type=Path, help="the checkpoint's folder")
    parser.add_argument("--collections", nargs="+", default=["ir/scifact"], help="below DATA")
    parser.add_argument("--max-length", type=int, default=256, help="tokens of a text")
    parser.add_argument("--rows", type=int, default=300, help="texts whose encoding is timed")
    options = parser.parse(arguments)
    if options.model is None:
        parser.error("--model is needed: the folder of a checkpoint")
    parser.existing(options.model)
    for name in options.collections:
        parser.existing(options.data / name / "docs.parquet")
    return options


def quality(
    options: argparse.Namespace, report: Report, path: Path, expected: tuple[float, float] | None
) -> None:
    docs, threads = path / "docs.parquet", ("--threads", options.threads)
    with tempfile.TemporaryDirectory() as folder:
        impacts, index = Path(folder) / "impacts.parquet", Path(folder) / "index"
        commands.fastseq(
            "embed", options.model, docs, "-o", impacts, "--sparse", "--max-length",
            options.max_length, *commands.column_options(docs), *threads,
        )  # fmt: skip
        lengths = [len(terms) for terms in pq.read_table(impacts)["impacts"].to_pylist()]
        commands.fastseq("index", impacts, "--impacts", "impacts", "-o", index, *threads)
        (found,) = commands.searched(
            path, index, ["nDCG@10"], "--sparse", options.model, "-k", 100, *threads
        )
    print(f"{path.name}: nDCG@10 {found:.4f}, {np.mean(lengths):.1f} terms a document")
    report.results[path.name] = {"nDCG@10": found, "terms": float(np.mean(lengths))}
    if expected is not None:
        value, off = expected
        report.target(abs(found - value) <= off, f"{path.name}: nDCG@10 {value} ± {off}")


def speed(options: argparse.Namespace, report: Report, path: Path) -> None:
    texts = commands.documents(path / "docs.parquet")[1][: options.rows]
    encoder = SparseEncoder.load(
        options.model, max_length=options.max_length, threads=options.threads
    )
    encoder.encode(texts[:2])
    start = time.process_time()
    ours = encoder.encode(texts)
    seconds = time.process_time() - start
    tokens = encoder.report.tokens
    print(f"fastseq: {tokens / seconds:,.0f} tokens per CPU second")
    report.results["tokens"] = {"fastseq": tokens / seconds}
    torch, transformers = optional("torch"), optional("transformers")
    if torch is None or transformers is None:
        return
    model = transformers.AutoModelForMaskedLM.from_pretrained(options.model).eval()
    inputs = encoder.tokenizer.join(encoder.tokenizer.encode(texts), length=options.max_length)
    ids = [inputs.ids[a:b] for a, b in zip(inputs.offsets, inputs.offsets[1:], strict=False)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    start = time.process_time()
    theirs: dict[int, Any] = {}
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        found = splade(torch, model, [ids[row] for row in rows])
        theirs |= dict(zip(rows, found, strict=True))
    peer = time.process_time() - start
    names = encoder.tokenizer.words(range(len(encoder.tokenizer)))
    worst = max(
        abs(float(theirs[row][id]) - terms.get(name, 0.0))
        for row, terms in enumerate(ours)
        for id, name in enumerate(names)
        if isinstance(terms, dict) and (theirs[row][id] or name in terms)
    )
    report.check(worst < TOLERANCE, f"a weight differs by {worst:.1e} from PyTorch's")
    print(f"PyTorch: {tokens / peer:,.0f}, largest difference of a weight {worst:.1e}")
    report.results["tokens"]["PyTorch"] = tokens / peer
    report.target(peer / seconds >= TARGET, f"{TARGET} × PyTorch: {peer / seconds:.2f}")


def splade(torch: Any, model: Any, ids: list[Any]) -> Any:
    """float32[B, V]: the weights of a batch of ids, padded to the longest."""
    longest = max(map(len, ids))
    padded, mask = np.zeros((2, len(ids), longest), np.int64)
    for row, own in enumerate(ids):
        padded[row, : len(own)], mask[row, : len(own)] = own, 1
    given = {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask)}
    with torch.inference_mode():
        scores = torch.log1p(torch.relu(model(**given).logits))
        return (scores * given["attention_mask"][:, :, None]).max(1).values.numpy()


if __name__ == "__main__":
    sys.exit(main())
