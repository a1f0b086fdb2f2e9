"""The kernels of embedding, dropout, pooling and softmax with vectors of every width."""

from __future__ import annotations

import numpy as np
import pytest

from tests.widths import TESTED, outputs

# Rows of 1, 5 and 77 columns: shorter than any vector, ragged, and with whole vectors in them.
SCRIPT = """
import sys
import numpy as np
from fastseq.kernels.nn import pooling
from fastseq.kernels.core.width import LANES
from fastseq.nn.layers import Embedding, dropped
from fastseq.nn.losses import softmax, softmax_cross_entropy
from fastseq.nn.pooling import Pooling

rng = np.random.default_rng(0)
found = {"lanes": LANES}
offsets = np.array([0, 1, 9, 30])
for size in (1, 5, 77):
    x = rng.standard_normal((30, size)).astype(np.float32)
    dy = rng.standard_normal((3, size)).astype(np.float32)
    found[f"mask {size}"] = np.empty(size, np.float32)
    dropped(found[f"mask {size}"], np.ones(size, np.float32), 0.5, size)
    embedding = Embedding(7, size)
    ids = rng.integers(0, 7, 30).astype(np.int32)
    found[f"rows {size}"] = embedding.forward(ids)
    embedding.backward(x)
    found[f"slopes {size}"] = embedding.grads["weight"]
    for kind in ("last", "mean", "max"):
        layer = Pooling(kind, size)
        found[f"{kind} {size}"] = layer.forward(x, offsets)
        found[f"{kind} dx {size}"] = layer.backward(dy)
    # attention's kernels alone: the layer's products are tested elsewhere
    u, scores, products = x.copy(), np.empty(30, np.float32), np.empty(30, np.float32)
    pooling.attention_scores(scores, u.reshape(-1), dy[0], 0, 30)
    found[f"u {size}"] = u.copy()
    found[f"scores {size}"] = scores
    pooling.attention_scores_backward(u.reshape(-1), scores, dy[0], 0, 30)
    found[f"du {size}"] = u
    pooling.segment_products(products, x.reshape(-1), dy.reshape(-1), offsets, 0, 3)
    found[f"products {size}"] = products
    gradient = x.copy()
    found[f"loss {size}"] = softmax_cross_entropy(gradient, rng.integers(-1, size, 30))
    found[f"gradient {size}"] = gradient
    found[f"softmax {size}"] = softmax(x)
np.savez(sys.argv[1], **found)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("widths")
    outputs(TESTED, "-c", SCRIPT, str(folder / "{width}.npz"))
    found = {}
    for width in TESTED:
        with np.load(folder / f"{width}.npz") as arrays:
            found[width] = dict(arrays)
    return found


@pytest.mark.parametrize("width", TESTED)
def test_heads_match_at_every_vector_width(
    results: dict[int, dict[str, np.ndarray]], width: int
) -> None:
    found, expected = results[width], results[min(TESTED)]
    assert found["lanes"] == width
    assert list(found) == list(expected)
    for name in list(found)[1:]:
        value = expected[name]
        # masks, rows, largest values and sums of one column have one order and one rounding
        exact = name.split()[0] in ("mask", "rows", "slopes", "max", "last", "mean")
        scale = np.abs(value).max() * (0 if exact else 3e-6)
        np.testing.assert_allclose(found[name], value, rtol=0, atol=scale, err_msg=name)
