"""Writing of checkpoints in Hugging Face's format."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastseq.errors import SettingsError
from fastseq.models.bert.checkpoint import (
    CONFIG,
    LIMITS,
    MODULES,
    PROMPTS,
    WEIGHTS,
    Sentences,
    is_checkpoint,
)
from fastseq.models.bert.config import BertConfig
from fastseq.settings import file_path
from fastseq.store import disk
from fastseq.store.files import writing, written_whole
from fastseq.store.weights import write_weights
from fastseq.text.tokenizer_files import tokenizer_files
from fastseq.text.wordpiece import WordPiece
from fastseq.types import Float32

ENCODER = "BertModel"  # architectures, as transformers names them
CLASSIFICATION = "BertForSequenceClassification"
PRETRAINING = "BertForPreTraining"

_PREFIX = "bert."
_FORMAT = {"format": "pt"}  # without which transformers refuses a file
_MODULES = "sentence_transformers.models"
_POOLING = "1_Pooling"
_MODES = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}


def check_target(path: str | Path, overwrite: bool = False) -> Path:
    """The folder to write a checkpoint to. Raises SettingsError where its parent does not exist,
    it is a file, or it is not empty: with `overwrite` a checkpoint is replaced, no other folder."""
    target = file_path("path", path)
    if target.exists() and not target.is_dir():
        raise SettingsError(f"{path}: is a file, expected a folder to write to")
    if not target.resolve().parent.is_dir():
        raise SettingsError(f"{path}: no such folder: {target.resolve().parent}")
    if target.is_dir() and any(target.iterdir()):
        if not is_checkpoint(target):
            raise SettingsError(f"{path}: is a folder with other files, expected a new one")
        if not overwrite:
            raise SettingsError(f"{path}: already exists: overwrite=True replaces it")
    return target


def write_checkpoint(
    path: str | Path,
    architecture: str,
    config: BertConfig,
    weights: Mapping[str, Float32],
    tokenizer: WordPiece,
    *,
    sentences: Sentences | None = None,
    max_length: int | None = None,
    labels: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint, whole or not at all: config.json, model.safetensors, tokenizer.json and
    tokenizer_config.json.

    Parameters
    ----------
    architecture : the class of transformers whose names the weights have
    weights : {name: float32 array}, those of the encoder under "bert."; an ENCODER is written
        without this prefix
    sentences : write the modules of sentence-transformers too
    max_length : tokens of a text; None: that of `sentences`, or the positions
    labels : names of the classes
    settings : further settings for config.json

    Raises as `check_target`; FastseqError where the system refuses.
    """
    target = check_target(path, overwrite).resolve()
    most = max_length or (config.positions if sentences is None else sentences.most)
    padding = tokenizer.id_of(tokenizer.specials.padding)
    content = {"architectures": [architecture], **config.to_dict(), "pad_token_id": padding or 0}
    if labels is not None:
        content["id2label"] = {str(number): label for number, label in enumerate(labels)}
        content["label2id"] = {label: number for number, label in enumerate(labels)}
    files = {CONFIG: {**content, **(settings or {})}, **tokenizer_files(tokenizer, most)}
    if sentences is not None:
        files |= _sentence_files(sentences, config)
    if architecture == ENCODER:
        weights = {name.removeprefix(_PREFIX): array for name, array in weights.items()}
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with writing(path):
            disk.make_folder(temporary)
            for name, values in files.items():
                file = temporary / name
                if file.parent != temporary:
                    disk.make_folder(file.parent)
                with written_whole(file) as new:
                    text = json.dumps(values, indent=2, ensure_ascii=False)
                    new.write_text(text + "\n", encoding="utf-8")
            write_weights(temporary / WEIGHTS, weights, _FORMAT)
            _replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(source: Path, target: Path) -> None:
    """Rename a folder to `target`, in the place of the one there."""
    old = source.with_suffix(".old")
    if target.exists():
        disk.rename(target, old)
    try:
        disk.rename(source, target)
    except OSError:
        with suppress(OSError):
            disk.rename(old, target)
        raise
    disk.flush_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sentence_files(sentences: Sentences, config: BertConfig) -> dict[str, Any]:
    """The modules of sentence-transformers, by the names of their files."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if sentences.normalize else [])]
    paths = ["", _POOLING, "2_Normalize"]
    pooling = {"word_embedding_dimension": config.hidden}
    pooling |= {f"pooling_mode_{name}": mode == sentences.pooling for mode, name in _MODES.items()}
    default = next(
        (name for name, text in sentences.prompts.items() if text == sentences.default_prompt), None
    )
    return {
        MODULES: [
            {"idx": number, "name": str(number), "path": path, "type": f"{_MODULES}.{kind}"}
            for number, (kind, path) in enumerate(zip(kinds, paths, strict=False))
        ],
        f"{_POOLING}/{CONFIG}": pooling,
        LIMITS: {"max_seq_length": sentences.most, "do_lower_case": sentences.lowercases},
        PROMPTS: {"prompts": dict(sentences.prompts), "default_prompt_name": default},
    }
