"""A corpus of three topics for word vectors, and how well vectors separate them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import numpy as np

TOPICS = (
    ["apple", "pear", "plum", "cherry", "peach"],
    ["river", "lake", "sea", "ocean", "pond"],
    ["king", "queen", "prince", "duke", "earl"],
)
COMMON = ["the", "of", "and"]


def texts(count: int = 600, seed: int = 0) -> list[str]:
    """Sentences of words of one topic each, mixed with common words."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(rng.choice([*TOPICS[i % 3], *TOPICS[i % 3], *COMMON], 12).tolist())
        for i in range(count)
    ]


def coherence(vectors: Any) -> float:
    """The share of words whose nearest word is of their topic."""
    right = 0
    for topic in TOPICS:
        for word in topic:
            others = [w for w, _ in vectors.neighbors(word, 17) if w not in COMMON]
            right += others[0] in topic
    return right / 15


def stop_after(rounds: int) -> Callable[[Any], None]:
    """A report that sends Ctrl-C after so many rounds."""
    left = [rounds]

    def report(progress: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    return report
