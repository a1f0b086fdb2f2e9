"""Small random checkpoints of BERT in Hugging Face's format, and their forward pass in float64."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tests.naive.transformer import attention, gelu, layer_norm

_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", ".", ","]
PIECES = [*_SPECIALS, *_WORDS, "##s", "##ning"]
HEAD = "cls.predictions."
CONFIG: dict[str, Any] = {
    "model_type": "bert", "vocab_size": len(PIECES), "hidden_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 16,
    "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
}  # fmt: skip


def weights_of(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under the names of Hugging Face's BertModel."""
    rng = np.random.default_rng(seed)
    H, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], H),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], H),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], H),
        "embeddings.LayerNorm": (H,),
    }
    for layer in range(config["num_hidden_layers"]):
        start = f"encoder.layer.{layer}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{start}attention.{name}"] = (H, H)
        shapes[f"{start}attention.output.LayerNorm"] = shapes[f"{start}output.LayerNorm"] = (H,)
        shapes[f"{start}intermediate.dense"] = (inner, H)
        shapes[f"{start}output.dense"] = (H, inner)
    found: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        values = rng.normal(0, 0.5, shape)
        if "embeddings.weight" in name or name.endswith("_embeddings.weight"):
            found[name] = values
        else:
            found[f"{name}.weight"] = values + (1 if "LayerNorm" in name else 0)
            found[f"{name}.bias"] = rng.normal(0, 0.5, shape[:1])
    return {name: values.astype(np.float32) for name, values in found.items()}


def masked_weights_of(config: dict[str, Any] = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of BertForMaskedLM with a tied decoder."""
    rng = np.random.default_rng(seed)
    H = config["hidden_size"]
    found = {f"bert.{name}": values for name, values in weights_of(config, seed).items()}
    for name, shape in (("dense.weight", (H, H)), ("dense.bias", (H,)), ("LayerNorm.bias", (H,))):
        found[f"{HEAD}transform.{name}"] = rng.normal(0, 0.5, shape).astype(np.float32)
    found[f"{HEAD}transform.LayerNorm.weight"] = rng.normal(1, 0.3, H).astype(np.float32)
    found[f"{HEAD}bias"] = rng.normal(0, 0.5, config["vocab_size"]).astype(np.float32)
    return found


def write_checkpoint(
    path: Path,
    config: dict[str, Any] = CONFIG,
    weights: dict[str, np.ndarray] | None = None,
    *,
    pooling: str | None = None,
    normalize: bool = True,
    limit: int | None = None,
    prompts: dict[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Write a folder; with `pooling`, of sentence-transformers. Returns the weights."""
    try:
        from safetensors.numpy import save_file
    except ImportError:  # the environment of the CUDA tests
        from fastseq.store.weights import write_weights

        def save_file(tensors: Any, filename: Any) -> None:
            write_weights(filename, tensors)

    path.mkdir(parents=True, exist_ok=True)
    weights = weights_of(config) if weights is None else weights
    (path / "config.json").write_text(json.dumps(config))
    (path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    save_file(weights, path / "model.safetensors")
    if limit is not None:
        (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": limit}))
    if prompts is not None:
        given = json.dumps({"prompts": prompts})
        (path / "config_sentence_transformers.json").write_text(given)
    if pooling is not None:
        names = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
        modules = [
            {"idx": i, "path": f"{i}_{name}" if i else "",
             "type": f"sentence_transformers.models.{name}"}
            for i, name in enumerate(names)
        ]  # fmt: skip
        (path / "modules.json").write_text(json.dumps(modules))
        (path / "1_Pooling").mkdir()
        modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
        chosen = {f"pooling_mode_{mode}": mode.startswith(pooling + "_tok") for mode in modes}
        (path / "1_Pooling" / "config.json").write_text(json.dumps(chosen))
    return weights


def hidden_of(
    config: dict[str, Any], weights: dict[str, np.ndarray], ids: list[list[int]]
) -> list[np.ndarray]:
    """The last layer's float64[n, H] of each sequence of ids."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    eps, is_tanh = config["layer_norm_eps"], config["hidden_act"] != "gelu"

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"], eps)[0]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    offsets = np.cumsum([0, *map(len, ids)])
    x = np.concatenate([
        w["embeddings.word_embeddings.weight"][own]
        + w["embeddings.position_embeddings.weight"][: len(own)]
        + w["embeddings.token_type_embeddings.weight"][0]
        for own in ids
    ])  # fmt: skip
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        start = f"encoder.layer.{layer}."
        names = (f"{start}attention.self.{name}" for name in ("query", "key", "value"))
        qkv = np.concatenate([dense(x, name) for name in names], axis=1)
        attended = attention(qkv, offsets, config["num_attention_heads"])[0]
        attended = dense(attended, f"{start}attention.output.dense")
        x = norm(x + attended, f"{start}attention.output.LayerNorm")
        inner = gelu(dense(x, f"{start}intermediate.dense"), is_tanh)[0]
        x = norm(x + dense(inner, f"{start}output.dense"), f"{start}output.LayerNorm")
    return [x[a:b] for a, b in pairwise(offsets)]
