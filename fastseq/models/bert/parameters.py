"""The arrays of a BERT encoder under Hugging Face's names, and their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from fastseq.errors import FormatError
from fastseq.models.bert.config import BertConfig
from fastseq.types import Float32

EMBEDDINGS = "embeddings"
WORDS = f"{EMBEDDINGS}.word_embeddings.weight"
POSITIONS = f"{EMBEDDINGS}.position_embeddings.weight"
TYPES = f"{EMBEDDINGS}.token_type_embeddings.weight"
NORM = "LayerNorm"
POOLER = "pooler.dense"
QUERY, KEY, VALUE = (f"attention.self.{name}" for name in ("query", "key", "value"))
ATTENTION = "attention.output.dense"
ATTENTION_NORM = f"attention.output.{NORM}"
INNER, OUTER, OUTER_NORM = "intermediate.dense", "output.dense", f"output.{NORM}"

_PREFIX = re.compile(r"^(bert|roberta)\.")
_HEAD = {  # of RoBERTa's masked-word head: BERT's name
    "lm_head.dense.": "cls.predictions.transform.dense.",
    "lm_head.layer_norm.": f"cls.predictions.transform.{NORM}.",
    "lm_head.": "cls.predictions.",
}
_OLD = re.compile(r"(?<=\bLayerNorm\.)(gamma|beta)$")  # names of TensorFlow's checkpoints
_NEW = {"gamma": "weight", "beta": "bias"}
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # no parameters


def layer_name(layer: int, name: str) -> str:
    """The name of an array, or of what has arrays, in a layer, counted from 0."""
    return f"encoder.layer.{layer}.{name}"


def encoder_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """{name: shape} of the arrays of an encoder without pooler, in the order of a checkpoint."""
    H, inner = config.hidden, config.intermediate
    dense = {
        QUERY: (H, H), KEY: (H, H), VALUE: (H, H), ATTENTION: (H, H), INNER: (inner, H),
        OUTER: (H, inner),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        WORDS: (config.words, H), POSITIONS: (config.positions, H), TYPES: (config.types, H)
    }  # fmt: skip
    norms = [f"{EMBEDDINGS}.{NORM}"]
    for layer in range(config.layers):
        for name, shape in dense.items():
            shapes[f"{layer_name(layer, name)}.weight"] = shape
            shapes[f"{layer_name(layer, name)}.bias"] = shape[:1]
        norms += [layer_name(layer, ATTENTION_NORM), layer_name(layer, OUTER_NORM)]
    for name in norms:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (H,)
    return shapes


def plain_names(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a checkpoint under the names of `encoder_shapes`, heads under their own:
    without the prefix "bert." or "roberta.", and with BERT's names in place of those of
    TensorFlow's layer normalisation and of RoBERTa's masked-word head."""
    found = {_plain_name(name): array for name, array in arrays.items()}
    return {name: array for name, array in found.items() if name not in _BUFFERS}


def _plain_name(name: str) -> str:
    name = _PREFIX.sub("", name)
    for own, bert in _HEAD.items():
        if name.startswith(own):
            return bert + name.removeprefix(own)
    return _OLD.sub(lambda old: _NEW[old[0]], name)


def check_shapes(
    arrays: Mapping[str, npt.NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, Float32]:
    """The arrays of `shapes`. Raises FormatError, which names the array, for one that is missing,
    of another shape or not of floating-point numbers."""
    found: dict[str, Float32] = {}
    for name, shape in shapes.items():
        if name not in arrays:
            raise FormatError(f"{where}: not the weights of this model: {name} is missing")
        array = arrays[name]
        if array.shape != shape:
            raise FormatError(
                f"{where}: {name} is of shape {list(array.shape)}, expected {list(shape)} by "
                "config.json"
            )
        if array.dtype.kind != "f":
            raise FormatError(f"{where}: {name} is of type {array.dtype}, expected numbers")
        found[name] = array
    return found
