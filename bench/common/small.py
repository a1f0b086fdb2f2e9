"""Small generated data sets, laid out as the benchmarks expect DATA to be.

    text/wiki_simple              id, title, text         search, features, vectors
    text/wiki_simple_queries      query_id, text
    text/tinyshakespeare_{train,valid}      text          character models
    ir/{cranfield,scifact}/{docs,queries,qrels}           effectiveness
    classify/{sst2,trec6}/{train,test}, classify/mr/all, classify/chnsenticorp/{train,valid}
                                  text, label
    tag/ud_ewt/{train,test}       tokens, tags
    series/sunspots               sunspots
    words/analogies               section, a, b, c, d
    words/wordsim353              word1, word2, score

All are Parquet files. A text is about a topic and mostly has its words, so that models learn
something and searches find something.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastseq.store.weights import write_weights

TOPICS, WORDS = 6, 12  # of a topic
COMMON = ("the", "of", "and", "in", "Is", "running", "runs", "café", "naïve", "42")
DOCUMENTS, QUERIES, EXAMPLES = 200, 20, 60
_SYLLABLES = ("ba", "ke", "lo", "mi", "nu", "ra", "so", "ti", "ve", "zu")
_FOLDER: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@cache
def folder() -> Path:
    """A temporary folder of this process."""
    _FOLDER.append(tempfile.TemporaryDirectory(prefix="fastseq-bench-"))
    return Path(_FOLDER[0].name)


@cache
def data() -> Path:
    """The folder of all data sets, written once a process."""
    for name, columns in _sets():
        path = folder() / "data" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
    return folder() / "data"


@cache
def checkpoint() -> Path:
    """A masked-language model of BERT with random weights, written once a process."""
    path = folder() / "checkpoint"
    path.mkdir()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [word.lower() for topic in TOPIC_WORDS for word in topic]
    pieces = [*specials, *letters, *(f"##{letter}" for letter in letters), *words]
    hidden, inner, layers = 32, 64, 2
    sizes = {
        "model_type": "bert", "vocab_size": len(pieces), "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": inner,
        "max_position_embeddings": 256, "type_vocab_size": 2,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(sizes))
    (path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}_embeddings.weight": (rows, hidden)
        for name, rows in (("word", len(pieces)), ("position", 256), ("token_type", 2))
    }
    dense: dict[str, tuple[int, ...]] = {}
    norms = ["embeddings.LayerNorm"]
    for layer in range(layers):
        start = f"encoder.layer.{layer}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            dense[f"{start}attention.{name}"] = (hidden, hidden)
        dense[f"{start}intermediate.dense"] = (inner, hidden)
        dense[f"{start}output.dense"] = (hidden, inner)
        norms += [f"{start}attention.output.LayerNorm", f"{start}output.LayerNorm"]
    dense["cls.predictions.transform.dense"] = (hidden, hidden)
    norms.append("cls.predictions.transform.LayerNorm")
    shapes["cls.predictions.bias"] = (len(pieces),)
    for name in norms:
        dense[name] = (hidden,)
    for name, shape in dense.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal("LayerNorm.weight" in name, 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    write_weights(path / "model.safetensors", weights)
    return path


def _word(number: int) -> str:
    return "".join(_SYLLABLES[number // 10**place % 10] for place in range(3))


TOPIC_WORDS = [[_word(topic * WORDS + n + 100) for n in range(WORDS)] for topic in range(TOPICS)]


def _texts(rng: np.random.Generator, topics: list[int], longest: int = 25) -> list[str]:
    """A text for each topic, of 4 to `longest` words."""
    return [
        " ".join(
            str(rng.choice(TOPIC_WORDS[topic] if rng.random() < 0.7 else COMMON))
            for _ in range(rng.integers(4, longest))
        )
        for topic in topics
    ]


def _sets() -> Iterator[tuple[str, dict[str, Any]]]:
    rng = np.random.default_rng(1)
    topics = [n % TOPICS for n in range(DOCUMENTS)]
    texts, ids = _texts(rng, topics), [f"d{n}" for n in range(DOCUMENTS)]
    query_ids = [f"q{n}" for n in range(QUERIES)]
    queries = _texts(rng, topics[:QUERIES], 6)
    titles = [TOPIC_WORDS[topic][0] for topic in topics]
    yield "text/wiki_simple", {"id": ids, "title": titles, "text": texts}
    yield "text/wiki_simple_queries", {"query_id": query_ids, "text": queries}
    for name in ("train", "valid"):
        yield f"text/tinyshakespeare_{name}", {"text": _texts(rng, topics[:EXAMPLES])}
    pairs = [(q, d) for q in range(QUERIES) for d in range(q, DOCUMENTS, TOPICS)]
    qrels = {"query_id": [f"q{q}" for q, _ in pairs], "doc_id": [f"d{d}" for _, d in pairs]}
    for name in ("cranfield", "scifact"):
        yield f"ir/{name}/docs", {"doc_id": ids, "title": titles, "text": texts}
        yield f"ir/{name}/queries", {"query_id": query_ids, "text": queries}
        yield f"ir/{name}/qrels", {**qrels, "rel": pa.array([1] * len(pairs), pa.int32())}
    for name in ("sst2/train", "sst2/test", "trec6/train", "trec6/test", "mr/all",
                 "chnsenticorp/train", "chnsenticorp/valid"):  # fmt: skip
        labels = rng.integers(0, 2, EXAMPLES).tolist()
        yield f"classify/{name}", {"text": _texts(rng, labels), "label": labels}
    for name in ("train", "test"):
        tokens = [text.split() for text in _texts(rng, topics[:EXAMPLES], 12)]
        tags = [["X" if word in COMMON else "NOUN" for word in row] for row in tokens]
        yield f"tag/ud_ewt/{name}", {"tokens": tokens, "tags": tags}
    wave = 50 + 40 * np.sin(np.arange(300) / 5) + rng.normal(0, 2, 300)
    yield "series/sunspots", {"sunspots": wave}
    a, b = TOPIC_WORDS[0], TOPIC_WORDS[1]
    questions = [("topics", a[n], b[n], a[n + 1], b[n + 1]) for n in range(WORDS - 1)]
    names = ("section", "a", "b", "c", "d")
    yield "words/analogies", dict(zip(names, map(list, zip(*questions, strict=True)), strict=True))
    alike = [(a[0], word, 9.0) for word in a[1:]] + [(a[0], word, 1.0) for word in b]
    first, second, scores = map(list, zip(*alike, strict=True))
    yield "words/wordsim353", {"word1": first, "word2": second, "score": scores}
