"""The encoder of BERT for inference, of arrays under Hugging Face's names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastseq.kernels.nn.pooling import segment_maxima, segment_sums
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.parameters import (
    ATTENTION,
    ATTENTION_NORM,
    EMBEDDINGS,
    INNER,
    KEY,
    NORM,
    OUTER,
    OUTER_NORM,
    POSITIONS,
    QUERY,
    TYPES,
    VALUE,
    WORDS,
    layer_name,
)
from fastseq.nn.encoder import Affine, Embeddings, Encoder, EncoderLayer, Norm
from fastseq.threads import Team
from fastseq.types import Float32, Int64


def make_encoder(
    weights: Mapping[str, Float32], config: BertConfig, team: Team, precision: str = "float32"
) -> Encoder:
    """The encoder of the arrays of `parameters.encoder_shapes`.

    The matrices of the layers are copied, those of the embeddings and the norms are not.
    """

    def norm(name: str) -> Norm:
        return Norm(weights[f"{name}.weight"], weights[f"{name}.bias"])

    def affine(*names: str) -> Affine:
        both = [[weights[f"{name}.{part}"] for name in names] for part in ("weight", "bias")]
        return Affine(*(parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in both))

    def layer(number: int) -> EncoderLayer:
        def own(name: str) -> str:
            return layer_name(number, name)

        return EncoderLayer(
            affine(own(QUERY), own(KEY), own(VALUE)),
            affine(own(ATTENTION)),
            norm(own(ATTENTION_NORM)),
            affine(own(INNER)),
            affine(own(OUTER)),
            norm(own(OUTER_NORM)),
        )

    tables = Embeddings(
        weights[WORDS], weights[POSITIONS], weights[TYPES], norm(f"{EMBEDDINGS}.{NORM}")
    )
    return Encoder(
        tables, [layer(number) for number in range(config.layers)], config.heads, config.epsilon,
        config.is_tanh, team, precision,
    )  # fmt: skip


def pool_rows(hidden: Float32, offsets: Int64, pooling: str) -> Float32:
    """float32[B, H], a row for each of B sequences of float32[N, H]: their mean, first row or
    maxima."""
    if pooling == "cls":
        return hidden[offsets[:-1]]
    width = hidden.shape[1]
    out = np.empty((len(offsets) - 1, width), np.float32)
    flat, rows = out.reshape(-1), hidden.reshape(-1)
    if pooling == "max":
        numbers = np.empty_like(flat)
        segment_maxima(flat, numbers, rows, offsets, 0, width)
        return out
    segment_sums(flat, rows, np.ones(len(hidden), np.float32), offsets, 0, width)
    out /= np.diff(offsets)[:, None].astype(np.float32)
    return out
