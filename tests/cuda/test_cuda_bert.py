"""Fine-tuning of BERT on the device against the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import BertClassifier, BertRegressor
from fastseq.kernels.cuda.runtime.target import SIMULATED
from fastseq.models import load
from tests.bert_checkpoints import CONFIG, write_checkpoint
from tests.sampling import ALL

SMALL = {
    "num_hidden_layers": 1, "hidden_size": 4, "num_attention_heads": 1, "intermediate_size": 4,
    "max_position_embeddings": 8, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
EPOCHS = 2 if ALL else 1
TEXTS = ["the cat sat", "a dog"]


@pytest.mark.skipif(SIMULATED, reason="slow in the simulator")
@pytest.mark.parametrize("pooling", ["mean", "cls"] if ALL else ["cls"])
def test_fine_tuning(pooling: str, tmp_path: Path) -> None:
    """Losses, gradients and predictions of the CPU, also after loading. Weights are not compared:
    where a gradient is zero but for rounding (biases of keys), Adam's step is of either sign."""
    write_checkpoint(tmp_path / "base", CONFIG | SMALL)
    pairs = pooling == "cls"
    kind: Any = BertRegressor if pairs else BertClassifier
    texts: list[Any] = list(zip(TEXTS, TEXTS[::-1], strict=True)) if pairs else TEXTS
    y: list[Any] = [1.0, 2.5] if pairs else ["cat", "dog"]
    settings: dict[str, Any] = {"pairs": pairs, "pooling": pooling, "base": tmp_path / "base"}
    settings |= {"learning_rate": 0.01, "epochs": EPOCHS, "batch_size": 2, "seed": 3, "threads": 1}
    mine, theirs = (kind(**settings, device=device) for device in ("cpu", "cuda"))
    mine.fit(texts, y)
    theirs.fit(texts, y, path=tmp_path / "model")
    for name in ("train_loss", "gradient_norm"):
        found, expected = (model.history_.columns[name] for model in (theirs, mine))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    predict = "predict" if pairs else "predict_proba"
    expected = getattr(mine, predict)(texts)
    np.testing.assert_allclose(getattr(theirs, predict)(texts), expected, atol=1e-4)
    for device in ("cpu", "cuda"):
        found = getattr(load(tmp_path / "model", threads=1, device=device), predict)(texts)
        np.testing.assert_allclose(found, expected, atol=1e-4)
