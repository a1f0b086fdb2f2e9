"""A trained model on disk.

    MODEL/
      manifest.json         kind "model", the model type, its settings and statistics
      weights.safetensors   the weights under PyTorch's names: a second link to the file below
      data-00000n/          weights.safetensors, history.parquet, and what else the model needs
      checkpoint/           the last checkpoint of its training

The checkpoint stays after training, so that a model can be trained for more epochs with `resume`;
it may be deleted. It is removed when the model is replaced by one that was not trained there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.store.folder import (
    CHECKPOINT,
    MANIFEST,
    Folder,
    Manifest,
    is_begun,
    is_written,
    read_manifest,
)
from fastseq.store.parquet import write_columns
from fastseq.store.weights import read_weights, write_weights
from fastseq.store.writer import FolderWriter
from fastseq.training.checkpoint import Checkpoint, History
from fastseq.types import Float32

KIND = "model"
VERSION = 1
WEIGHTS = "weights.safetensors"
HISTORY = "history.parquet"

Content = npt.NDArray[Any] | Mapping[str, Sequence[Any]]


class ModelWriter:
    """A folder in which a model is trained and then written; a context manager.

    The folder is locked when the block begins, so that two trainings cannot share it and a refusal
    comes before training. An existing model stays until `commit`.

    overwrite  an existing model or checkpoint may be replaced
    resume     the model or checkpoint there may be continued

    Raises SettingsError if a model or the checkpoint of an unfinished run exists and neither was
    given, for `resume` of a model without a checkpoint, and for another kind of folder;
    FastseqError if another process trains there.
    """

    def __init__(self, path: str | Path, overwrite: bool = False, resume: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._resume = resume
        self._trains = False
        self._writer = FolderWriter(
            path, KIND, VERSION, overwrite or resume, links=(WEIGHTS,), inside=(CHECKPOINT,)
        )

    def __enter__(self) -> ModelWriter:
        written, begun = is_written(self.path), is_begun(self.path)
        if self._resume and written and not begun and not self._overwrite:
            raise SettingsError(
                f"{self.path} has no checkpoint to resume from: overwrite=True trains from the "
                "beginning"
            )
        if (written or begun) and not (self._overwrite or self._resume):
            what = "already exists" if written else "holds the checkpoint of an unfinished training"
            further = "resume=True trains it further, " if begun else ""
            raise SettingsError(f"{self.path} {what}: {further}overwrite=True replaces it")
        self._writer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def checkpoint(self, identity: Mapping[str, Any], stays: bool = True) -> Checkpoint:
        """The checkpoint of this training, inside the model's folder, with the `identity` of
        Checkpoint; `stays`: also after training."""
        self._trains = stays
        return Checkpoint(self.path / CHECKPOINT, identity)

    def commit(
        self,
        model: str,
        settings: Mapping[str, Any],
        statistics: Mapping[str, Any],
        weights: Mapping[str, Float32],
        files: Mapping[str, Content],
    ) -> None:
        """Write the model, whole or not at all; durable on return.

        model                 the model type, such as "classifier"
        settings, statistics  JSON with finite numbers
        weights               {PyTorch's name: float32 array}
        files                 {name: an array of one dimension, or columns, written as Parquet}

        Raises FastseqError where the system refuses, ValueError for a name that is taken or not a
        plain one; the previous model then remains.
        """
        writer = self._writer
        write_weights(writer.path(WEIGHTS), dict(weights), {"model": model})
        writer.adopt(WEIGHTS)
        columns: dict[str, list[str]] = {}
        for name, content in files.items():
            if isinstance(content, np.ndarray):
                writer.array(name, content)
            else:
                write_columns(writer.path(name), content)
                writer.adopt(name)
                columns[name] = list(content)
        writer.commit({"model": model, "settings": dict(settings), "columns": columns}, statistics)
        if not self._trains:  # a checkpoint there is of the previous model
            shutil.rmtree(self.path / CHECKPOINT, ignore_errors=True)


@dataclass(frozen=True, slots=True, eq=False)
class ModelFolder:
    """A saved model, every checksum verified.

    model                 the model type
    settings, statistics  of its manifest
    weights               {name: float32 array}, copies
    """

    path: Path
    model: str
    settings: dict[str, Any]
    statistics: dict[str, Any]
    weights: dict[str, Float32]
    _folder: Folder
    _columns: dict[str, list[str]]

    @property
    def names(self) -> list[str]:
        """The names of its files, sorted."""
        return self._folder.names

    def array(self, name: str, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """A file of one array, see Folder.array. Raises FormatError if there is none, or one of
        another dtype."""
        return self._folder.array(name, dtype)

    def columns(self, name: str) -> dict[str, list[Any]]:
        """A file of columns, as Python values. Raises FormatError if there is none."""
        names = self._columns.get(name)
        if names is None:
            raise FormatError(f"{self.path}: {MANIFEST} names no columns of {name!r}")
        return dict(zip(names, self._folder.columns(name, names), strict=True))

    def history(self) -> History | None:
        """The history of its training, if it was saved. Raises FormatError for a damaged one."""
        return History(self.columns(HISTORY)) if HISTORY in self._columns else None


def read_model(path: str | Path) -> ModelFolder:
    """Read a model and verify every checksum of its files. Raises FormatError without a model, and
    for one that is of a newer fastseq or damaged (which file)."""
    root = Path(path)
    if not (root / MANIFEST).exists() and (root / CHECKPOINT / MANIFEST).exists():
        raise FormatError(f"{root}: an unfinished training: no model yet, but a checkpoint")
    manifest: Manifest | None = None
    while True:
        before = manifest
        manifest = read_manifest(root, KIND, {VERSION})
        try:
            return _read(root)
        except FormatError:
            # after a concurrent commit, read the new one
            if manifest == before:
                raise


def _read(root: Path) -> ModelFolder:
    folder = Folder.open(root, KIND, {VERSION})
    for name in folder.damaged():
        if name == WEIGHTS:
            raise FormatError(f"{root / name}: damaged or exchanged: not what {MANIFEST} names")
        raise FormatError(f"{root / name}: damaged: its checksum is wrong")
    content = folder.settings
    model, settings, columns = (content.get(key) for key in ("model", "settings", "columns"))
    if not (isinstance(model, str) and isinstance(settings, dict) and isinstance(columns, dict)):
        raise FormatError(f"{root / MANIFEST}: damaged: the manifest does not name the model type")
    try:
        weights, _ = read_weights(folder.path(WEIGHTS))
    except DataError as error:
        raise FormatError(str(error)) from error
    return ModelFolder(root, model, settings, folder.statistics, weights, folder, columns)
