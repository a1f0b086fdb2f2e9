"""How good predicted probabilities are, of texts with one label or several."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastseq.models.data.examples import ReadReport
from fastseq.models.fasttext.network import FittedState
from fastseq.models.metrics import Confusion, class_scores
from fastseq.types import Float32, Int32, Int64

THRESHOLD = 0.5  # from which a label of several is told


class Tally:
    """Adds up what is found of the texts measured.

    Attributes
    ----------
    texts, told : in all, and those with a label that training had
    """

    def __init__(self, learned: FittedState) -> None:
        self._learned = learned
        self.texts = self.told = 0
        self._loss = 0.0
        self._right = self._both = self._given = self._wanted = 0
        self._expected: list[Int32] = []
        self._best: list[Int64] = []

    def add(self, shares: Float32, codes: Int32, ends: Int64) -> None:
        """Texts with their probabilities float32[D, K]: text d has the labels
        codes[ends[d]:ends[d + 1]], -1 for those unseen in training."""
        text = np.repeat(np.arange(len(shares)), np.diff(ends))
        best = np.argmax(shares, 1)
        self._right += int(np.count_nonzero(np.bincount(text, codes == best[text])))
        known = codes >= 0
        chosen = shares >= THRESHOLD
        self._both += int(np.count_nonzero(chosen[text[known], codes[known]]))
        self._given += int(np.count_nonzero(chosen))
        self._wanted += len(codes)
        loss, told = summed_loss(
            shares, codes[known], text[known], self._learned.loss in ("negative", "ova")
        )
        self._loss += loss
        self.told += told
        self.texts += len(shares)
        self._expected.append(codes)
        self._best.append(best)

    @property
    def accuracy(self) -> float:
        """The share of texts whose likeliest label is among their own."""
        return self._right / self.texts

    @property
    def loss(self) -> float:
        """The mean over texts with a known label, in nats."""
        return self._loss / self.told

    def several(self) -> dict[str, float]:
        """Measures of texts with several labels."""
        return {
            "accuracy": self.accuracy,
            "recall": self._right / self._wanted,
            "micro_f1": 2 * self._both / (self._given + self._wanted),
            "loss": self.loss,
        }

    def single(
        self, classes: npt.NDArray[np.generic], report: ReadReport
    ) -> tuple[dict[str, float], Confusion]:
        """Measures of texts with one label each, and the counts of known ones."""
        expected, best = np.concatenate(self._expected), np.concatenate(self._best)
        K, known = len(classes), expected >= 0
        cells = np.bincount(expected[known] * K + best[known], minlength=K * K)
        f1 = class_scores(expected, best).f1
        present = len(f1) - (not known.all()) + len(report.unseen)  # -1 stands for all unseen ones
        measures = {
            "accuracy": self.accuracy, "macro_f1": float(f1.sum() / present), "loss": self.loss,
        }  # fmt: skip
        return measures, Confusion(classes, cells.reshape(K, K).astype(np.int64))


def summed_loss(shares: Float32, labels: Int32, text: Int64, alone: bool) -> tuple[float, int]:
    """The summed loss of texts, in nats, and how many of them have a label.

    shares  float32[D, K]
    labels  known ones, each of the text `text` at its place
    alone   whether each label is told by itself: then the loss is that of all K labels, else that
            of the right one (the mean over several)
    """
    of_text = np.bincount(text, minlength=len(shares))
    told = of_text > 0
    chances: npt.NDArray[np.float64] = np.clip(shares.astype(np.float64), 1e-38, 1.0)
    right = np.log(chances[text, labels])
    if not alone:
        return float(-(right / of_text[text]).sum()), int(told.sum())
    others = np.log1p(-np.minimum(chances, 1 - 1e-7))
    total = -others[told].sum() + (others[text, labels] - right).sum()
    return float(total), int(told.sum())
