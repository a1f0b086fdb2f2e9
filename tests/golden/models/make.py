"""Makes the golden models of the format version that this fastseq writes.

    python tests/golden/models/make.py [FOLDER]

One of each kind, written once for each version into v1, v2, … beside this file or below FOLDER,
with what each answered, and then left as it is: a later fastseq must read it, or refuse it with a
clear message.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastseq.models import load
from fastseq.models.classifier import SequenceClassifier
from fastseq.models.folder import VERSION
from fastseq.models.forecaster import Forecaster
from fastseq.models.language import LanguageModel
from fastseq.models.tagger import SequenceTagger

HERE = Path(__file__).resolve().parent

TEXTS = ["a fine film", "dull and poor", "great songs", "an awful plot", "猫喜欢吃鱼", "ÉTÉ joli"]
LABELS = [1, 0, 1, 0, 1, 1]
ROWS = [["Ann", "sings"], ["the", "dog", "runs", "home"], ["Bob", "Stone", "eats"]]
TAGS = [["B-PER", "O"], ["O", "O", "O", "O"], ["B-PER", "I-PER", "O"]]
SERIES = np.sin(np.arange(40.0))[:, None] * [1.0, 5.0] + [0.0, 100.0]
ASKED = ["fine songs", "a word never seen", "猫"]
ASKED_ROWS = [["Eve", "sings"], ["the", "cat"]]
SMALL = {"hidden": 3, "epochs": 2, "batch_size": 2, "threads": 1}


def models() -> dict[str, Any]:
    """One fitted model of each kind and cell, using most features of a folder."""
    classifier = SequenceClassifier(
        embedding=4, bidirectional=True, pooling="attention", **SMALL
    ).fit(TEXTS, LABELS, valid=(TEXTS, LABELS))
    tagger = SequenceTagger(
        cell="gru", embedding=4, chars=True, char_embedding=3, char_hidden=2, crf=True, layers=2,
        **SMALL,
    ).fit(ROWS, TAGS)  # fmt: skip
    language = LanguageModel(
        cell="rnn", nonlinearity="tanh", unit="char", embedding=3, tie_weights=True, bptt=5, **SMALL
    ).fit(TEXTS)
    forecaster = Forecaster(window=6, horizon=2, **SMALL).fit(SERIES)
    return {
        "classifier": classifier, "tagger": tagger, "language": language, "forecaster": forecaster,
    }  # fmt: skip


def answers(name: str, model: Any) -> Any:
    """What a model says, as JSON."""
    if name == "classifier":
        return model.predict_proba(ASKED).tolist()
    if name == "tagger":
        return model.predict(ASKED_ROWS)
    if name == "language":
        text = "".join(model.generate("a", 12, greedy=True))
        return [text, *(model.log_probability(asked) for asked in ("a fine", "poor"))]
    return model.predict(SERIES)[-2:].tolist()


def make(target: Path) -> Path:
    """Write the models of the current version below `target`; refuses to write over any."""
    folder = target / f"v{VERSION}"
    for name, model in models().items():
        model.save(folder / name)
        (folder / name / "lock").unlink(missing_ok=True)
        with open(folder / f"{name}.json", "x", encoding="utf-8") as file:
            json.dump(answers(name, load(folder / name)), file, ensure_ascii=False, indent=1)
            file.write("\n")
    return folder


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
