"""Models that are fitted to data; `load` opens a saved one of any kind."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastseq.models.fasttext.classifier import FastTextClassifier
    from fastseq.models.sequence import NetworkModel

__all__ = ["load"]

# {kind of model on disk: its module and class}
_HOMES = {
    "classifier": ("fastseq.models.classifier", "SequenceClassifier"),
    "tagger": ("fastseq.models.tagger", "SequenceTagger"),
    "language": ("fastseq.models.language", "LanguageModel"),
    "forecaster": ("fastseq.models.forecaster", "Forecaster"),
    "bert classifier": ("fastseq.models.bert.finetuning", "BertClassifier"),
    "bert tagger": ("fastseq.models.bert.tagging", "BertTagger"),
    "bert answerer": ("fastseq.models.bert.answering", "BertAnswerer"),
    "bert reranker": ("fastseq.models.bert.reranking", "BertReranker"),
    "bert embedder": ("fastseq.models.bert.embedding", "BertEmbedder"),
    "bert regressor": ("fastseq.models.bert.finetuning", "BertRegressor"),
    "bert pretrained": ("fastseq.models.bert.pretraining", "BertPretrainer"),
    "fasttext": ("fastseq.models.fasttext.classifier", "FastTextClassifier"),
}


def load(
    path: str | Path, threads: int | None = None, device: str = "auto"
) -> NetworkModel[Any] | FastTextClassifier:
    """Load the model of a folder, of whichever class it is.

    Parameters
    ----------
    threads : to predict with; None for every core
    device : "auto", "cpu" or "cuda"

    Raises
    ------
    FormatError
        No model there, one of a newer fastseq, a damaged one, or of an unknown kind.
    DeviceError
        The device is not available.
    """
    from fastseq.errors import FormatError
    from fastseq.models.folder import read_model

    folder = read_model(path)
    if folder.model not in _HOMES:
        raise FormatError(
            f"{path}: holds a model of kind {folder.model!r}, expected one of {', '.join(_HOMES)}"
        )
    module, name = _HOMES[folder.model]
    made: type[NetworkModel[Any] | FastTextClassifier] = getattr(import_module(module), name)
    return made.from_folder(folder, threads, device)
