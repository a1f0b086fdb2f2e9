"""Saving, loading and pickling of models, and the reading of their data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from fastseq.errors import FormatError, NotFittedError, SettingsError
from fastseq.models.data.examples import ReadReport
from fastseq.models.folder import Content, ModelFolder, read_model, write_model
from fastseq.models.parameters import ModelParameters
from fastseq.settings import thread_count
from fastseq.types import Float32

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.rows import RowReader

# Any state with `settings` (of the manifest), `fields`, `reports` and `history`.
S = TypeVar("S", bound=Any)


class SavableModel(ModelParameters, ABC, Generic[S]):
    """A model of rows that `save` writes and `load` reads.

    Its fitted state has the settings that it was fitted with: neither what is saved nor what is
    predicted depends on a later `set_params`, parameters of a single run excepted.
    """

    kind: ClassVar[str]  # the model's name on disk
    inputs: ClassVar[str]  # what open_rows reads: "text", "tokens" or "values"
    columns: ClassVar[Mapping[str, str]]  # {argument of fit: what open_rows calls it}
    supervised: ClassVar[bool] = True  # whether there are targets besides the inputs

    # ---- fitted state

    @property
    def learned(self) -> S:
        """The fitted state. Raises NotFittedError before `fit`."""
        if self._learned is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")
        state: S = self._learned
        return state

    @property
    def report_(self) -> dict[str, ReadReport]:
        """Counts of what was read, under "training", "validation", and "data" for what was
        evaluated or predicted last."""
        reports: dict[str, ReadReport] = self.learned.reports
        return reports

    # ---- saving

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the fitted model to a folder, whole or not at all.

        Raises SettingsError where the folder is taken, FastseqError where the system refuses.
        """
        write_model(path, self.kind, *self._content(self.learned), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None, device: str = "auto") -> Self:
        """What `save`, or `fit` with a path, wrote.

        Raises FormatError for a folder that is damaged, of another version, or of another kind,
        DeviceError for a device that is not available.
        """
        folder = read_model(path)
        if folder.model != cls.kind:
            raise FormatError(f"{path}: holds a {folder.model}, expected a {cls.kind}")
        return cls.from_folder(folder, threads, device)

    @classmethod
    def from_folder(cls, folder: ModelFolder, threads: int | None, device: str) -> Self:
        """The model of a folder of its kind that was read; raises as `load`."""
        thread_count(threads)
        run = {"threads": threads, **cls._on(device)}
        try:
            model = cls.from_settings(folder.settings, **run)
            model.check()
            state = model._restored(folder)
        except (SettingsError, FormatError) as error:
            raise FormatError(f"{folder.path}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FormatError(
                f"{folder.path}: its settings and statistics are not consistent: {error!r}"
            ) from error
        state.settings = model.settings()
        model._learned = state
        return model

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the parameters and, where fitted, the files of `save`."""
        files: dict[str, bytes] = {}
        if self._learned is not None:
            with TemporaryDirectory() as place:
                self.save(place)
                paths = [path for path in Path(place).rglob("*") if path.is_file()]
                files = {str(path.relative_to(place)): path.read_bytes() for path in paths}
        return {"settings": self.get_params(), "files": files}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**state["settings"])  # type: ignore[misc]
        if state["files"]:
            with TemporaryDirectory() as place:
                for name, content in state["files"].items():
                    path = Path(place) / name
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(content)
                device = state["settings"].get("device", "auto")
                self._learned = type(self).load(place, self.threads, device)._learned

    @abstractmethod
    def _content(
        self, learned: S
    ) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, Float32], dict[str, Content]]:
        """Settings, statistics, weights and files, as ModelWriter.commit takes them."""

    @abstractmethod
    def _restored(self, folder: ModelFolder) -> S:
        """The fitted state of what `_content` gave. Raises FormatError, KeyError, TypeError,
        ValueError or IndexError for damaged content."""

    @classmethod
    @abstractmethod
    def _on(cls, device: str) -> dict[str, Any]:
        """The parameters of a model that computes on a device. Raises SettingsError for a name
        that is not known, DeviceError for a device that is not available."""

    # ---- reading

    def _open(
        self,
        examples: Any,
        y: Any = None,
        columns: Mapping[str, Any] | None = None,
        *,
        fields: Fields | None = None,
        like: RowReader | None = None,
        targets: bool | None = None,
        **more: Any,
    ) -> RowReader:
        """The rows of examples in any form.

        Parameters
        ----------
        columns : what the caller of `fit` and the like named, from `_named_columns`
        fields : those of training, for all that is not named; not for lists, which have no names
        like : rows whose labels are of the type to expect
        targets : whether they are read; None: where the model has some
        more : outputs, keep and id, as open_rows has them
        """
        from fastseq.store.in_memory import as_source
        from fastseq.store.rows import open_rows

        wanted = self.supervised if targets is None else targets
        source = as_source(examples, y, self.inputs)
        named = dict(columns or {})
        if fields is not None and source is examples:
            roles = set(self.columns.values()) - (set() if wanted else {"label", "tags"})
            named = {role: getattr(fields, role) for role in roles} | named
        more.setdefault("outputs", False)
        return open_rows(source, self.inputs, like=like, targets=wanted, **named, **more)

    def _open_valid(self, valid: Any, columns: Mapping[str, Any], like: RowReader) -> RowReader:
        """The rows to validate on, their columns those of training."""
        y = None
        if self.supervised and isinstance(valid, tuple) and len(valid) == 2:
            valid, y = valid
        return self._open(valid, y, columns, fields=like.fields, like=like)

    def _named_columns(self, **named: Any) -> dict[str, Any]:
        """The columns that were named, by what open_rows calls them."""
        found = {}
        for name, value in named.items():
            if value is None:
                continue
            if name not in self.columns:
                raise SettingsError(
                    f"a {self.kind} has no {name}; expected {' and '.join(self.columns)}"
                )
            found[self.columns[name]] = value
        return found
