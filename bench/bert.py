"""Encoding with a BERT checkpoint compared with PyTorch, ONNX Runtime and OpenVINO.

    python -m bench.bert --model CHECKPOINT --data DATA

Sections:

fixed   batches of random ids of one length, so that no peer computes padding: tokens per second of
        each, hidden states in, mean-pooled vectors out
corpus  paragraphs of text/wiki_simple, Parquet to Parquet, tokenised: texts per second. Peers get
        the ids of `tokenizers` where it is installed, in batches of 32, sorted by length and not;
        each pads to the longest of a batch
start   a process that encodes one text: seconds and peak memory beyond those of Python

PyTorch runs transformers' BertModel, which is also what ONNX Runtime and OpenVINO are given. All
compute in float32. Checked first: the cosine of each vector to PyTorch's is at least .99999.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.common import harness, small
from bench.common.harness import Check, Contender
from bench.common.report import Parser, Report, optional
from bench.startup import python

BATCHES = ((64, 16), (32, 64), (16, 128), (8, 256))  # texts, tokens of each
BATCH = 32  # texts of a ragged batch
LEAST = 0.99999  # cosine
TARGETS = {"OpenVINO": 1.0, "PyTorch": 1.0}
LONG = 128  # tokens from which ONNX Runtime's target holds
LONG_TARGET = {"ONNX Runtime": 1.2}
CORPUS_TARGETS = {"sorted": 1.5, "unsorted": 3.0}
START_SECONDS, START_MEGABYTES = 0.7, 250

Pool = Callable[[np.ndarray, np.ndarray], np.ndarray]  # ids, mask -> mean vectors


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("bert", options, ("torch", "transformers", "onnxruntime", "openvino"))
    with tempfile.TemporaryDirectory() as folder:
        peers = peers_of(options, Path(folder))
        if "fixed" in options.sections:
            fixed(options, report, peers)
        if "corpus" in options.sections:
            corpus(options, report, peers, Path(folder))
        if "start" in options.sections:
            start(options, report)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, rounds=5, threads=1, small={"rows": 60, "model": small.checkpoint()})
    parser.add_argument("--model", type=Path, help="the checkpoint's folder")
    parser.add_argument("--rows", type=int, default=50_000, help="texts of the section corpus")
    parser.add_argument(
        "--sections", nargs="+", choices=("fixed", "corpus", "start"),
        default=["fixed", "corpus", "start"],
    )  # fmt: skip
    options = parser.parse(arguments)
    if options.model is None:
        parser.error("--model is needed: the folder of a checkpoint")
    parser.existing(options.model)
    return options


# ---- the peers


def peers_of(options: argparse.Namespace, folder: Path) -> dict[str, Pool]:
    """{name: mean vectors of padded ids} of the peers that are installed."""
    torch, transformers = optional("torch"), optional("transformers")
    if torch is None or transformers is None:
        return {}
    torch.set_num_threads(options.threads)
    model = transformers.BertModel.from_pretrained(options.model, add_pooling_layer=False).eval()

    class Mean(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any) -> Any:
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            weight = mask.to(hidden.dtype)[:, :, None]
            return (hidden * weight).sum(1) / weight.sum(1)

    mean = Mean().eval()

    def by_torch(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = mean(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        return found

    peers: dict[str, Pool] = {"PyTorch": by_torch}
    example = torch.ones((2, 8), dtype=torch.int64)
    path = folder / "model.onnx"
    onnxruntime = optional("onnxruntime")
    if onnxruntime is not None and optional("onnx") is not None:
        axes = {0: "texts", 1: "tokens"}
        torch.onnx.export(
            mean, (example, example), str(path), input_names=["ids", "mask"],
            output_names=["vectors"], dynamic_axes={"ids": axes, "mask": axes}, dynamo=False,
        )  # fmt: skip
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        peers["ONNX Runtime"] = lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]
    openvino = optional("openvino")
    if openvino is not None:
        converted = openvino.convert_model(mean, example_input=(example, example))
        compiled = openvino.Core().compile_model(
            converted, "CPU",
            {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": options.threads},
        )  # fmt: skip
        peers["OpenVINO"] = lambda ids, mask: compiled((ids, mask))[0]
    return peers


def check(found: np.ndarray, expected: np.ndarray) -> Check:
    """Whether each vector's cosine to the expected one is large enough."""
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    least = float((np.einsum("ij,ij->i", found, expected) / norms).min())
    return Check(least >= LEAST, f"least cosine {least:.7f}")


# ---- sections


def fixed(options: argparse.Namespace, report: Report, peers: dict[str, Pool]) -> None:
    from fastseq.models.bert.encoding import TextEncoder
    from fastseq.models.bert.inference import pool_rows

    encoder = TextEncoder.load(options.model, threads=options.threads)
    words = len(encoder.tokenizer)
    for texts, tokens in BATCHES:
        tokens = min(tokens, encoder.max_length)
        ids = np.random.default_rng(tokens).integers(5, words, (texts, tokens))
        mask = np.ones_like(ids)
        flat, offsets = ids.reshape(-1).astype(np.int32), np.arange(texts + 1) * tokens

        def ours(flat: np.ndarray = flat, offsets: np.ndarray = offsets) -> np.ndarray:
            vectors = np.empty((len(offsets) - 1, encoder.size), np.float32)

            def pool(numbers: np.ndarray, hidden: np.ndarray, bounds: np.ndarray) -> None:
                vectors[numbers] = pool_rows(hidden, bounds, "mean")

            encoder.network.encode(flat, offsets, pool)
            return vectors

        expected = peers["PyTorch"](ids, mask) if peers else ours()
        checked = partial(check, expected=expected)
        contenders = [Contender("fastseq", ours, checked)]
        contenders += [
            Contender(name, partial(peer, ids, mask), checked) for name, peer in peers.items()
        ]
        found = harness.compare(contenders, options.rounds)
        print(f"\n{texts} texts of {tokens} tokens")
        print(harness.rate_table(found, texts * tokens, "fastseq", "tokens/s"), flush=True)
        report.check(not found.refused, f"{texts} × {tokens}: {found.refused}")
        targets = TARGETS | (LONG_TARGET if tokens >= LONG else {})
        for name in found.timings.keys() & targets.keys():
            ratio = found.ratio(name, "fastseq")
            report.target(
                ratio >= targets[name],
                f"{texts} × {tokens}: {ratio:.2f} × {name}, at least {targets[name]}",
            )
        report.results[f"fixed {texts} x {tokens}"] = found.to_dict(texts * tokens, "fastseq")


def corpus(
    options: argparse.Namespace, report: Report, peers: dict[str, Pool], folder: Path
) -> None:
    from fastseq.models.bert.encoding import TextEncoder
    from fastseq.store.rows import Corpus

    path = options.data / "text" / "wiki_simple.parquet"
    table = pq.read_table(path, columns=["id", "text"])
    step = max(1, table.num_rows // options.rows)
    table = table.take(np.arange(0, table.num_rows, step)[: options.rows])
    source, target = folder / "texts.parquet", folder / "vectors.parquet"
    pq.write_table(table, source)
    encoder = TextEncoder.load(options.model, threads=options.threads, normalize=False)

    def ours() -> np.ndarray:
        reader = Corpus.open(source, None, "text", ())
        encoder.predict_batches(reader).write(target, overwrite=True)
        column = pq.read_table(target)["vector"].combine_chunks()
        vectors: np.ndarray = column.values.to_numpy().reshape(-1, encoder.size)
        return vectors

    expected = ours()
    contenders = [Contender("fastseq", ours, lambda v: check(v, expected))]
    tokenizers = optional("tokenizers")
    if tokenizers is not None and (options.model / "tokenizer.json").exists():
        tokenizer = tokenizers.Tokenizer.from_file(str(options.model / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(encoder.max_length)
        for name, peer in peers.items():
            for way in CORPUS_TARGETS:
                run = _batched(peer, tokenizer, source, way == "sorted", encoder.size, target)
                contenders.append(Contender(f"{name}, {way}", run, lambda v: check(v, expected)))
    found = harness.compare(contenders, min(options.rounds, 3))
    print(f"\n{table.num_rows:,} texts, {encoder.report.tokens:,} tokens")
    print(harness.rate_table(found, table.num_rows, "fastseq", "texts/s"), flush=True)
    report.check(not found.refused, f"corpus: {found.refused}")
    for way, least in CORPUS_TARGETS.items():
        names = [name for name in found.timings if name.endswith(f", {way}")]
        if names:
            ratio = min(found.ratio(name, "fastseq") for name in names)
            report.target(
                ratio >= least, f"corpus: {ratio:.2f} × the fastest {way}, at least {least}"
            )
    report.results["corpus"] = found.to_dict(table.num_rows, "fastseq")


def _batched(
    peer: Pool, tokenizer: Any, source: Path, is_sorted: bool, size: int, target: Path
) -> Callable[[], np.ndarray]:
    def run() -> np.ndarray:
        texts = pq.read_table(source)["text"].to_pylist()
        ids = [found.ids for found in tokenizer.encode_batch(texts)]
        lengths = np.array([len(own) for own in ids])
        order = np.argsort(-lengths * is_sorted, kind="stable")
        vectors = np.empty((len(ids), size), np.float32)
        for first in range(0, len(ids), BATCH):
            numbers = order[first : first + BATCH]
            padded = np.zeros((len(numbers), lengths[numbers].max()), np.int64)
            mask = np.zeros_like(padded)
            for row, n in enumerate(numbers):
                padded[row, : len(ids[n])] = ids[n]
                mask[row, : len(ids[n])] = 1
            vectors[numbers] = peer(padded, mask)
        flat = pa.array(vectors.reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, size)
        pq.write_table(pa.table({"vector": column}), target)
        return vectors

    return run


_ONE = """
import sys, time
start = time.perf_counter()
import fastseq
vector = fastseq.TextEncoder.load(sys.argv[1]).encode("The weather is lovely today.")
seconds = time.perf_counter() - start
# not of getrusage, which a process inherits from the one that starts it
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(seconds, int(status["VmHWM"].split()[0]) / 1024)
"""


def start(options: argparse.Namespace, report: Report) -> None:
    found = []
    for _ in range(options.rounds + 1):
        whole, seconds = harness.seconds_of(lambda: python("-c", _ONE, str(options.model)))
        inner, megabytes = map(float, whole.split())
        found.append((seconds, inner, megabytes))
    seconds, inner, megabytes = np.median(np.array(found[1:]), axis=0)
    print(
        f"\none text in a fresh process: {seconds:.2f} s ({inner:.2f} s after Python), "
        f"{megabytes:.0f} MB"
    )
    report.target(seconds <= START_SECONDS, f"start: {seconds:.2f} s, at most {START_SECONDS}")
    what = f"start: {megabytes:.0f} MB, at most {START_MEGABYTES}"
    report.target(megabytes <= START_MEGABYTES, what)
    report.results["start"] = {"seconds": seconds, "inner": inner, "megabytes": megabytes}


if __name__ == "__main__":
    sys.exit(main())
