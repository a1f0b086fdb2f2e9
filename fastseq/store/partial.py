"""The finished row groups of an output in progress, so that an interrupted run continues.

    OUT.parquet.partial/
      lock           held by the process that writes; released when it ends
      manifest.json  what the rows depend on: a run continues only what began with the same
      part-000000    a row group as an Arrow stream, whose metadata has the rows up to its end, and
                     the state of the counters then

Parts are written atomically; the folder is removed when the output is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa

from fastseq.errors import FormatError, SettingsError, quoted
from fastseq.store import disk
from fastseq.store.files import reason, writing, written_whole

SUFFIX = ".partial"
_LOCK, _MANIFEST = "lock", "manifest.json"
_KEY = b"fastseq"
_VERSION = 1


class PartialOutput:
    """The parts of an output, in a folder beside it. A context manager, which releases the lock.

    Parameters
    ----------
    output : the path of the whole output
    identity : returns {name: value} of all that its rows depend on, as JSON has them
    overwrite : discard parts of a run with another identity

    Attributes
    ----------
    folder : where the parts are
    rows : number of rows in the parts
    state : of the counters after them

    Raises SettingsError: the parts are of a run with another identity, another process writes them,
    or the folder is not one of parts; FormatError: they are damaged; FastseqError: the system
    refuses.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        identity: Callable[[], Mapping[str, Any]],
        overwrite: bool = False,
    ) -> None:
        whole = Path(output)
        self.folder = whole.with_name(whole.name + SUFFIX)
        self._make_identity = identity
        self._parts: list[Path] = []
        self.rows, self.state = 0, dict[str, Any]()
        self._lock: filelock.BaseFileLock | None = None
        if self.folder.exists():
            self._open(overwrite)

    def __enter__(self) -> PartialOutput:
        return self

    def __exit__(self, *error: object) -> None:
        self._release()

    @cached_property
    def _identity(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            json.dumps({"version": _VERSION, **self._make_identity()})
        )
        return found

    def save(self, table: pa.Table, rows: int, state: Mapping[str, Any]) -> None:
        """Add a row group, after which there are `rows` rows, and the counters have this state."""
        if self._lock is None:
            with writing(self.folder):
                self.folder.mkdir(exist_ok=True)
            self._acquire()
            if (self.folder / _MANIFEST).exists():
                raise SettingsError(f"{self.folder}: another process has begun the same output")
            with writing(self.folder), written_whole(self.folder / _MANIFEST) as temporary:
                temporary.write_text(json.dumps(self._identity, indent=1), "utf-8")
        path = self.folder / f"part-{len(self._parts):06}"
        about = json.dumps({"rows": rows, "state": dict(state)}).encode()
        schema = table.schema.with_metadata({**(table.schema.metadata or {}), _KEY: about})
        with (
            writing(path), written_whole(path) as temporary, open(temporary, "wb") as file,
            pa.ipc.new_stream(file, schema) as stream,
        ):  # fmt: skip
            stream.write_table(table.replace_schema_metadata(schema.metadata))
        self._parts.append(path)

    def tables(self) -> Iterator[pa.Table]:
        """The row groups. Raises FormatError for a damaged one."""
        for path in self._parts:
            with open(path, "rb") as file, self._damage(path), pa.ipc.open_stream(file) as stream:
                metadata = dict(stream.schema.metadata)
                del metadata[_KEY]
                table = stream.read_all()
            yield table.replace_schema_metadata(metadata or None)

    def remove(self) -> None:
        """Remove the folder."""
        self._release()
        with suppress(OSError):
            disk.remove_folder(self.folder)

    def _open(self, overwrite: bool) -> None:
        self._acquire()
        path = self.folder / _MANIFEST
        names = sorted(each.name for each in self.folder.iterdir())
        if not path.exists() and [name for name in names if name != _LOCK and name[0] != "."]:
            raise SettingsError(f"{self.folder}: not an unfinished output of fastseq: remove it")
        if not path.exists():  # a run that ended before its first part
            self.remove()
            return
        with self._damage(path):
            found = json.loads(path.read_text("utf-8"))
            found = found if isinstance(found, dict) else {}
        if found != self._identity and overwrite:
            self.remove()
            return
        if found != self._identity:
            self._release()
            raise SettingsError(
                f"{self.folder}: an unfinished output with {_difference(found, self._identity)}"
                "; remove the folder, or set overwrite=True, to begin again"
            )
        while (part := self.folder / f"part-{len(self._parts):06}").exists():
            self._parts.append(part)
        if self._parts:
            last = self._parts[-1]
            with open(last, "rb") as file, self._damage(last), pa.ipc.open_stream(file) as stream:
                about = json.loads(stream.schema.metadata[_KEY])
                self.rows, self.state = int(about["rows"]), dict(about["state"])

    @contextmanager
    def _damage(self, path: Path) -> Iterator[None]:
        """Convert errors of reading a file to FormatError."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"{path}: damaged ({reason(error)}): remove {self.folder} to begin again"
            ) from error

    def _acquire(self) -> None:
        try:
            lock = filelock.FileLock(self.folder / _LOCK, timeout=0)
            lock.acquire()
        except filelock.Timeout:
            raise SettingsError(f"{self.folder}: another process is writing this output") from None
        except OSError as error:
            raise SettingsError(f"{self.folder}: cannot be locked ({reason(error)})") from None
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first value that differs, for a message; inputs last."""
    for name in sorted(before.keys() | now.keys(), key=lambda name: name == "inputs"):
        was, is_now = before.get(name), now.get(name)
        if was == is_now:
            continue
        if isinstance(was, dict) and isinstance(is_now, dict):
            return _difference(was, is_now)
        if name == "inputs":
            return "other inputs, or before they were changed"
        return f"another {name}: {_brief(was)}, now {_brief(is_now)}"
    return "other settings"


def _brief(value: Any) -> str:
    text = quoted(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
