"""What models that stand in a folder do alike: be loaded, pickled and copied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

from fastseq.errors import FormatError
from fastseq.estimator import BaseEstimator
from fastseq.models.folder import ModelFolder, read_model


class SavableModel(BaseEstimator, ABC):
    """A model that `save` writes and `load` reads."""

    kind: ClassVar[str]

    threads: int | None
    device: str = "auto"

    _learned: Any = None

    @abstractmethod
    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write what was learned to a folder, whole or not at all.

        Raises SettingsError where the folder is taken, FastseqError where the system refuses.
        """

    @classmethod
    @abstractmethod
    def from_folder(cls, folder: ModelFolder, threads: int | None, device: str) -> Self:
        """The model of a folder of its kind that was read; raises as `load`."""

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None, device: str = "auto") -> Self:
        """What `save`, or `fit` with a path, wrote.

        Raises FormatError for a folder that is damaged, of another version, or of another kind.
        """
        folder = read_model(path)
        if folder.model != cls.kind:
            raise FormatError(f"{path}: holds a {folder.model}, expected a {cls.kind}")
        return cls.from_folder(folder, threads, device)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the settings and, where fitted, the files of `save`."""
        files: dict[str, bytes] = {}
        if self._learned is not None:
            with TemporaryDirectory() as place:
                self.save(place)
                paths = [path for path in Path(place).rglob("*") if path.is_file()]
                files = {str(path.relative_to(place)): path.read_bytes() for path in paths}
        return {"settings": self.get_params(), "files": files}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name, value in state["settings"].items():
            setattr(self, name, value)
        if state["files"]:
            with TemporaryDirectory() as place:
                for name, content in state["files"].items():
                    path = Path(place) / name
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(content)
                self._learned = type(self).load(place, self.threads, self.device)._learned
