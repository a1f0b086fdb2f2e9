"""Encoding with a BERT checkpoint compared with PyTorch, ONNX Runtime, OpenVINO and CTranslate2.

    python -m bench.bert --model CHECKPOINT --data DATA

Sections:

fixed    batches of random ids of one length, so that no peer computes padding: tokens per second
         of each, hidden states in, mean-pooled vectors out; in float32, int8 and, where the CPU has
         instructions for it, bfloat16
products the large products of a layer, as shares of the machine's peak
quality  cosines of bfloat16 and int8 to float32 on 1,000 texts of text/wiki_simple, and Spearman's
         correlation on pairs/stsb_test
corpus   paragraphs of text/wiki_simple, Parquet to Parquet, tokenised: texts per second. Peers get
         the ids of `tokenizers` where it is installed, in batches of 32, sorted by length and not;
         each pads to the longest of a batch
start    a process that encodes one text: seconds and peak memory beyond those of Python

PyTorch runs transformers' BertModel, which is also what the others are given. ONNX Runtime's int8
is its dynamic quantisation by channel. Checked first: the cosine of each vector to PyTorch's in
float32, at least .99999 in float32; in other precisions the means of ours are checked (quality).
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
from bench.common.peak import peak
from bench.common.report import Parser, Report, optional, table
from bench.startup import python
from fastseq.nn.precisions import PRECISIONS, has_instructions
from fastseq.threads import Team

BATCHES = ((64, 16), (32, 64), (16, 128), (8, 256))  # texts, tokens of each
BATCH = 32  # texts of a ragged batch
LEAST = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.5}  # cosine of any contender
FASTEST = {"float32": 1.0, "bfloat16": 1.0, "int8": 1.15}  # ours to the quickest peer
LONG = 128  # tokens from which ONNX Runtime's target holds
LONG_TARGET = 1.2
MEAN_LEAST = {"bfloat16": (0.9999, 0.999), "int8": (0.9985, 0.997)}  # cosines to float32
SPEARMAN, SPEARMAN_SLACK = 0.8203, 0.0005  # of all-MiniLM-L6-v2
SHARES = {"float32": 0.85, "bfloat16": 0.85, "int8": 0.75}  # of the peak
PRODUCTS = ((1536, 384, 1536), (1536, 1536, 384), (1536, 384, 1152))  # rows, inputs, outputs
SECTIONS = ("fixed", "products", "quality", "corpus", "start")
CORPUS_TARGETS = {"sorted": 1.5, "unsorted": 3.0}
START_SECONDS, START_MEGABYTES = 0.7, 250

Pool = Callable[[np.ndarray, np.ndarray], np.ndarray]  # ids, mask -> mean vectors


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    names = ("torch", "transformers", "onnxruntime", "openvino", "ctranslate2")
    report = Report("bert", options, names)
    with tempfile.TemporaryDirectory() as folder:
        if "fixed" in options.sections or "corpus" in options.sections:
            peers = peers_of(options, Path(folder))
        if "fixed" in options.sections:
            for precision in options.precisions:
                fixed(options, report, precision, peers)
        if "products" in options.sections:
            products(options, report)
        if "quality" in options.sections:
            quality(options, report)
        if "corpus" in options.sections:
            corpus(options, report, peers["float32"], Path(folder))
        if "start" in options.sections:
            start(options, report)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, rounds=5, threads=1, small={"rows": 60, "model": small.checkpoint()})
    parser.add_argument("--model", type=Path, help="the checkpoint's folder")
    parser.add_argument("--rows", type=int, default=50_000, help="texts of the section corpus")
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS)
    )  # fmt: skip
    parser.add_argument(
        "--precisions", nargs="+", choices=list(PRECISIONS),
        default=[name for name in PRECISIONS if name != "bfloat16" or has_instructions(name)],
        help="of the section fixed",
    )  # fmt: skip
    options = parser.parse(arguments)
    if options.model is None:
        parser.error("--model is needed: the folder of a checkpoint")
    parser.existing(options.model)
    return options


# ---- the peers


def peers_of(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Pool]]:
    """{precision: {name: mean vectors of padded ids}} of the peers that are installed."""
    found: dict[str, dict[str, Pool]] = {name: {} for name in PRECISIONS}
    torch, transformers = optional("torch"), optional("transformers")
    if torch is None or transformers is None:
        return found
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
            vectors: np.ndarray = mean(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        return vectors

    def by_torch_bfloat16(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            vectors = mean(torch.from_numpy(ids), torch.from_numpy(mask))
        floats: np.ndarray = vectors.float().numpy()
        return floats

    found["float32"]["PyTorch"] = by_torch
    found["bfloat16"]["PyTorch"] = by_torch_bfloat16
    example = torch.ones((2, 8), dtype=torch.int64)
    onnxruntime = optional("onnxruntime")
    if onnxruntime is not None and optional("onnx") is not None:
        path = folder / "model.onnx"
        axes = {0: "texts", 1: "tokens"}
        torch.onnx.export(
            mean, (example, example), str(path), input_names=["ids", "mask"],
            output_names=["vectors"], dynamic_axes={"ids": axes, "mask": axes}, dynamo=False,
        )  # fmt: skip
        found["float32"]["ONNX Runtime"] = _session(onnxruntime, path, options.threads)
        quantization, smaller = optional("onnxruntime.quantization"), folder / "model.int8.onnx"
        quantization.quantize_dynamic(path, smaller, per_channel=True)
        found["int8"]["ONNX Runtime"] = _session(onnxruntime, smaller, options.threads)
    openvino = optional("openvino")
    if openvino is not None:
        converted = openvino.convert_model(mean, example_input=(example, example))
        for precision, hint in (("float32", "f32"), ("bfloat16", "bf16")):
            compiled = openvino.Core().compile_model(
                converted, "CPU",
                {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": options.threads},
            )  # fmt: skip
            found[precision]["OpenVINO"] = partial(_by_openvino, compiled)
    ctranslate2 = optional("ctranslate2")
    if ctranslate2 is not None:
        target = folder / "ctranslate2"
        ctranslate2.converters.TransformersConverter(str(options.model)).convert(str(target))
        for precision in ("float32", "int8"):
            encoder = ctranslate2.Encoder(
                str(target), compute_type=precision, intra_threads=options.threads
            )
            found[precision]["CTranslate2"] = partial(_by_ctranslate2, ctranslate2, encoder)
    return found


def _session(onnxruntime: Any, path: Path, threads: int) -> Pool:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), settings, ["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]


def _by_openvino(compiled: Any, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    vectors: np.ndarray = compiled((ids, mask))[0]
    return vectors


def _by_ctranslate2(module: Any, encoder: Any, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    lengths = module.StorageView.from_array(mask.sum(1).astype(np.int32))
    given = module.StorageView.from_array(ids.astype(np.int32))
    hidden = np.array(encoder.forward_batch(given, lengths).last_hidden_state)
    weight = mask.astype(np.float32)[:, :, None]
    vectors: np.ndarray = (hidden * weight).sum(1) / weight.sum(1)
    return vectors


def check(found: np.ndarray, expected: np.ndarray, least: float = LEAST["float32"]) -> Check:
    """Whether each vector's cosine to the expected one is large enough."""
    cosines = cosines_of(found, expected)
    shown = f"cosine {cosines.mean():.5f}, least {cosines.min():.7f}"
    return Check(float(cosines.min()) >= least, shown)


def cosines_of(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines: np.ndarray = np.einsum("ij,ij->i", found, expected) / norms
    return cosines


# ---- sections


def fixed(
    options: argparse.Namespace, report: Report, precision: str, all_peers: dict[str, Any]
) -> None:
    from fastseq.models.bert.encoding import TextEncoder
    from fastseq.models.bert.inference import pool_rows

    peers, reference = all_peers[precision], all_peers["float32"].get("PyTorch")
    encoder = TextEncoder.load(options.model, threads=options.threads, precision=precision)
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

        expected = ours() if reference is None else reference(ids, mask)
        checked = partial(check, expected=expected, least=LEAST[precision])
        contenders = [Contender("fastseq", ours, checked)]
        contenders += [
            Contender(name, partial(peer, ids, mask), checked) for name, peer in peers.items()
        ]
        found = harness.compare(contenders, options.rounds)
        case = f"{precision}, {texts} × {tokens}"
        print(f"\n{case} tokens")
        print(harness.rate_table(found, texts * tokens, "fastseq", "tokens/s"), flush=True)
        report.check(not found.refused, f"{case}: {found.refused}")
        ratios = {name: found.ratio(name, "fastseq") for name in found.timings if name in peers}
        if ratios and has_instructions(precision):
            name = min(ratios, key=lambda name: ratios[name])
            least = FASTEST[precision]
            report.target(
                ratios[name] >= least, f"{case}: {ratios[name]:.2f} × {name}, at least {least}"
            )
        if tokens >= LONG and precision == "float32" and "ONNX Runtime" in ratios:
            ratio = ratios["ONNX Runtime"]
            what = f"{case}: {ratio:.2f} × ONNX Runtime, at least {LONG_TARGET}"
            report.target(ratio >= LONG_TARGET, what)
        report.results[f"fixed {case}"] = found.to_dict(texts * tokens, "fastseq")


def products(options: argparse.Namespace, report: Report) -> None:
    top = peak(1, options.rounds, harness.SAMPLE)
    rng, team = np.random.default_rng(0), Team(1)
    rows = []
    for size in PRODUCTS if not options.small else ((96, 64, 48),):
        M, K, N = size
        x = rng.standard_normal((M, K)).astype(np.float32)
        weight = rng.standard_normal((N, K)).astype(np.float32)
        out = np.empty((M, N), np.float32)
        shown = ["M {} K {} N {}".format(*size)]
        for name, kind in PRECISIONS.items():
            # of the product alone: inputs are converted before the clock starts
            product = kind(weight, np.zeros(N, np.float32), team)
            words = product.converted(x)
            bias = np.zeros(len(product.bias), np.float32)
            work = partial(product.multiply_words, out, words, bias)
            seconds = harness.quickest(work, options.rounds, harness.SAMPLE)
            rate = 2 * M * K * N / seconds / 1e9
            share = rate / top / (kind.per_word if has_instructions(name) else 1)
            shown.append(f"{rate:.0f} ({share:.0%})")
            if has_instructions(name):
                least = SHARES[name]
                report.target(share >= least, f"{name} {size}: {share:.0%} of peak, {least:.0%}")
            report.results[f"product {name} {size}"] = {"gops": rate, "share": share}
        rows.append(shown)
    print(f"\npeak of float32: {top:.0f} GFLOP/s")
    print(table(["product, Gop/s (of peak)", *PRECISIONS], rows), flush=True)


def quality(options: argparse.Namespace, report: Report) -> None:
    from fastseq.models.bert.encoding import TextEncoder
    from fastseq.vectors.evaluation import spearman

    texts = pq.read_table(options.data / "text" / "wiki_simple.parquet")["text"].to_pylist()
    texts = texts[:: max(1, len(texts) // 1000)][:1000]
    pairs_path = options.data / "pairs" / "stsb_test.parquet"
    pairs = pq.read_table(pairs_path) if pairs_path.exists() else None
    exact = None
    print()
    for name in PRECISIONS:
        encoder = TextEncoder.load(
            options.model, threads=options.threads, precision=name, normalize=True
        )
        vectors = encoder.encode(texts)
        own: dict[str, float] = {}
        if exact is None:
            exact = vectors
        else:
            cosines = cosines_of(vectors, exact)
            own = {"mean": float(cosines.mean()), "least": float(cosines.min())}
            mean, least = MEAN_LEAST[name]
            what = f"{name}: cosine {own['mean']:.5f} on average, at least {own['least']:.5f}"
            report.target(own["mean"] >= mean and own["least"] >= least, what)
        if pairs is not None:
            a, b = (encoder.encode(pairs[side].to_pylist()) for side in ("text1", "text2"))
            scores = np.asarray(pairs["score"].to_numpy(), np.float64)
            own["spearman"] = spearman((a * b).sum(1).astype(np.float64), scores)
            if name == "float32":
                close = abs(own["spearman"] - SPEARMAN) <= SPEARMAN_SLACK
                report.target(close, f"STS-B: {own['spearman']:.4f}, {SPEARMAN} ± {SPEARMAN_SLACK}")
        print(name, *(f"{key} {value:.5f}" for key, value in own.items()), flush=True)
        report.results[f"quality {name}"] = own


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
