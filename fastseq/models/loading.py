"""A saved model as the class it is of."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastseq.errors import FormatError
from fastseq.models.folder import read_model

if TYPE_CHECKING:
    from fastseq.models.base import SequenceModel
    from fastseq.models.fasttext.classifier import FastTextClassifier

# the name of each kind of model on disk -> its class, imported when it is met
HOMES = {
    "classifier": ("fastseq.models.classifier", "SequenceClassifier"),
    "tagger": ("fastseq.models.tagger", "SequenceTagger"),
    "language": ("fastseq.models.language", "LanguageModel"),
    "forecaster": ("fastseq.models.forecaster", "Forecaster"),
    "fasttext": ("fastseq.models.fasttext.classifier", "FastTextClassifier"),
}


def load(
    path: str | Path, threads: int | None = None, device: str = "auto"
) -> SequenceModel[Any] | FastTextClassifier:
    """The model of a folder, of whichever class it is.

    Parameters
    ----------
    threads : to predict with; None for every core
    device : "auto", "cpu" or "cuda"

    Raises
    ------
    FormatError
        No model there, one of a newer fastseq, a damaged one, or of a kind that is not known.
    DeviceError
        There is no such device.
    """
    folder = read_model(path)
    if folder.model not in HOMES:
        raise FormatError(
            f"{path}: holds a model of kind {folder.model!r}, expected one of {', '.join(HOMES)}"
        )
    module, name = HOMES[folder.model]
    made: type[SequenceModel[Any] | FastTextClassifier] = getattr(import_module(module), name)
    return made.from_folder(folder, threads, device)
