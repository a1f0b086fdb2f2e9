"""The tokenizer in a model folder: its options in the manifest, its vocabulary in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastseq.models.folder import Content, ModelFolder
from fastseq.text.wordpiece import AddedToken, Specials, WordPiece

_VOCABULARY = "vocabulary.parquet"


def tokenizer_statistics(tokenizer: WordPiece) -> dict[str, Any]:
    """The entry "tokenizer" of a model's statistics."""
    options = dict(tokenizer.options)
    options["added"] = [asdict(token) for token in options["added"]]
    options["specials"] = asdict(options["specials"])
    return {**options, "size": len(tokenizer.vocabulary)}


def tokenizer_file(tokenizer: WordPiece) -> dict[str, Content]:
    """The file of its vocabulary."""
    vocabulary = tokenizer.vocabulary
    return {_VOCABULARY: {"token": list(vocabulary), "id": list(vocabulary.values())}}


def restored_tokenizer(folder: ModelFolder, saved: Mapping[str, Any]) -> WordPiece:
    """The tokenizer of `tokenizer_statistics` and `tokenizer_file`. Raises FormatError, KeyError,
    TypeError or SettingsError for damaged ones."""
    options = {name: value for name, value in saved.items() if name != "size"}
    options["added"] = [AddedToken(**token) for token in options["added"]]
    options["specials"] = Specials(**options["specials"])
    table = folder.columns(_VOCABULARY)
    return WordPiece(dict(zip(table["token"], table["id"], strict=True)), **options)
