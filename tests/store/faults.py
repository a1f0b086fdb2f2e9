"""A simulated disk: what is left of a folder when a call of the store fails, the disk is full, or
the power is cut.

It replaces the functions of fastseq.store.disk. Files are written, but not flushed; a model follows
what would survive a power cut: the content of a file when it was last flushed, and the entries of a
folder when that was last flushed. `after_power_cut` writes a copy of the folder in which the rest
is lost, kept, torn or mixed.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from fastseq.store import disk as real
from fastseq.store import writer as writer_module

FUNCTIONS = (
    "create", "write", "flush", "flush_folder", "rename", "link", "make_folder", "remove",
    "remove_folder",
)  # fmt: skip
ENTRIES = ("lost", "kept", "mixed")  # changes of folders that were not flushed
CONTENTS = ("lost", "half", "zeroed", "kept", "mixed")  # of files that were not flushed
# combinations of them: each half of a rule of the store is needed for one of these
VARIANTS = (
    ("lost", "lost"), ("kept", "lost"), ("kept", "half"), ("kept", "zeroed"), ("kept", "kept"),
    ("lost", "kept"), ("mixed", "mixed"),
)  # fmt: skip


class Death(BaseException):
    """The end of the process."""


class File:
    """durable  the bytes at the last flush; removed  those when its last name was removed"""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.removed = b""


class Folder:
    """Entries by name. pending  changes of the entries since the last flush, in order, each of
    which is made whole or not at all"""

    def __init__(self) -> None:
        self.durable: dict[str, File | Folder] = {}
        self.current: dict[str, File | Folder] = {}
        self.pending: list[dict[str, File | Folder | None]] = []

    def change(self, changed: dict[str, File | Folder | None]) -> None:
        self.pending.append(changed)
        _apply(self.current, changed)

    def flush(self) -> None:
        self.durable = dict(self.current)
        self.pending = []


def _apply(entries: dict[str, File | Folder], changed: dict[str, File | Folder | None]) -> None:
    for name, node in changed.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class SimulatedDisk:
    """The functions of fastseq.store.disk, with faults.

    Parameters
    ----------
    root : of the simulated file system; what is in it is on disk

    Attributes
    ----------
    calls : "function file" of each call so far
    fail_at, lasting : the number of the call, from 1, that fails, and whether the later ones that
        need space do too
    die_at : the number of the call at which the process ends; all later ones raise Death too
    free : bytes left on the disk; None for any number
    dead : whether the process has ended
    executor : of flushes in the background, before `install`
    """

    ENTRY = 64  # bytes that a new file or folder needs

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        self.fail_at = self.die_at = 0
        self.lasting = False
        self.free: int | None = None
        self.dead = False
        self.executor: type[Synchronous] = Synchronous
        self._halfway = False  # the last call is to be half made
        self._top = Folder()
        self._adopt(self._top, root)
        self._settle(self._top, root)

    def restarted(self) -> SimulatedDisk:
        """The same disk for another process, after the end of one."""
        self.calls, self.dead = [], False
        self.fail_at = self.die_at = 0
        return self

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replace the functions of the store."""
        self._real = {name: getattr(real, name) for name in FUNCTIONS}
        for name in FUNCTIONS:
            monkeypatch.setattr(real, name, getattr(self, name))
        monkeypatch.setattr(writer_module, "ThreadPoolExecutor", self.executor)

    # ---- the functions of the store

    def create(self, path: Path) -> BinaryIO:
        self._call("create", path, self.ENTRY)
        file: BinaryIO = self._real["create"](path)
        self._folder(path.parent).change({path.name: File()})
        return file

    def write(self, file: BinaryIO, data: Any, at: int | None = None) -> None:
        view = memoryview(data).cast("B")
        room = len(view) // 2
        try:
            if self.free is not None:
                room = min(self.free, len(view))
            self._call("write", Path(file.name), len(view))
        except BaseException:
            if self._halfway:
                self._real["write"](file, view[:room], at)
            raise
        self._real["write"](file, view, at)

    def flush(self, path: Path) -> None:
        self._call("flush", path)
        node = self._node(path)
        assert isinstance(node, File)
        node.durable = path.read_bytes()

    def flush_folder(self, path: Path) -> None:
        self._call("flush_folder", path)
        if not path.is_relative_to(self.root):
            return  # which is on disk
        folder = self._folder(path)
        self._adopt(folder, path)
        folder.flush()

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename", source)
        assert source.parent == target.parent
        node = self._node(source)
        self._remember(target)
        self._real["rename"](source, target)
        self._folder(source.parent).change({source.name: None, target.name: node})

    def link(self, source: Path, target: Path) -> None:
        self._call("link", target, self.ENTRY)
        node = self._node(source)
        self._remember(target)
        self._real["link"](source, target)
        self._folder(target.parent).change({target.name: node})

    def make_folder(self, path: Path) -> None:
        self._call("make_folder", path, self.ENTRY)
        self._real["make_folder"](path)
        self._folder(path.parent).change({path.name: Folder()})

    def remove(self, path: Path) -> None:
        self._call("remove", path)
        if not path.exists():
            self._real["remove"](path)
        self._remember(path)
        self._real["remove"](path)
        self._folder(path.parent).change({path.name: None})

    def remove_folder(self, path: Path) -> None:
        self._call("remove_folder", path)
        self._remember(path)
        self._real["remove_folder"](path)
        self._folder(path.parent).change({path.name: None})

    # ---- faults

    def _call(self, function: str, path: Path, needed: int = 0) -> None:
        self._halfway = False
        if self.dead:
            raise Death
        self.calls.append(f"{function} {path.name}")
        number = len(self.calls)
        if number == self.die_at:
            self.dead = self._halfway = True
            raise Death
        removal = function.startswith("remove")
        if self.fail_at and (
            number == self.fail_at or (self.lasting and number > self.fail_at and not removal)
        ):
            self._halfway = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.free is not None:
            if removal:
                self.free += _size(path)
            elif needed > self.free:
                self._halfway = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            else:
                self.free -= needed

    # ---- the power cut

    def after_power_cut(self, target: Path, entries: str, contents: str, seed: int = 0) -> None:
        """Write to `target` what may be left of the root: `entries` of ENTRIES, `contents` of
        CONTENTS; `seed` chooses what is mixed."""
        self._adopt(self._top, self.root)
        found = {node: path for path, node in self._files(self._top, self.root)}
        chance = random.Random(seed)

        def write(folder: Folder, to: Path) -> None:
            to.mkdir(parents=True, exist_ok=True)
            left = dict(folder.durable)
            for changed in folder.pending:
                if entries == "kept" or (entries == "mixed" and chance.random() < 0.5):
                    _apply(left, changed)
            for name, node in left.items():
                if isinstance(node, Folder):
                    write(node, to / name)
                else:
                    (to / name).write_bytes(content(node))

        def content(node: File) -> bytes:
            now = found[node].read_bytes() if node in found else node.removed
            if now == node.durable:
                return now
            how = chance.choice(CONTENTS[:-1]) if contents == "mixed" else contents
            half = now[: len(now) // 2]
            return {"lost": node.durable, "half": half, "zeroed": bytes(len(now)), "kept": now}[how]

        write(self._top, target)

    # ---- the model

    def _node(self, path: Path) -> File | Folder:
        node: File | Folder = self._top
        at = self.root
        for name in path.relative_to(self.root).parts:
            assert isinstance(node, Folder)
            if name not in node.current:
                self._adopt(node, at)
            node, at = node.current[name], at / name
        return node

    def _folder(self, path: Path) -> Folder:
        node = self._node(path)
        assert isinstance(node, Folder)
        return node

    def _adopt(self, folder: Folder, path: Path) -> None:
        """Follow changes that were not made by the store: locks, and files of others."""
        there = set(os.listdir(path))
        for name in there - folder.current.keys():
            inside = path / name
            folder.change({name: Folder() if inside.is_dir() else File()})
        for name in folder.current.keys() - there:
            folder.change({name: None})
        for name, node in folder.current.items():
            if isinstance(node, Folder):
                self._adopt(node, path / name)

    def _settle(self, folder: Folder, path: Path) -> None:
        """What there is, is on disk."""
        for name, node in folder.current.items():
            if isinstance(node, Folder):
                self._settle(node, path / name)
            else:
                node.durable = (path / name).read_bytes()
        folder.flush()

    def _files(self, folder: Folder, path: Path) -> Iterator[tuple[Path, File]]:
        for name, node in folder.current.items():
            if isinstance(node, Folder):
                yield from self._files(node, path / name)
            else:
                yield path / name, node

    def _remember(self, path: Path) -> None:
        """Keep the bytes of a file or folder whose name is about to be removed."""
        if not path.exists():
            return
        node = self._node(path)
        if isinstance(node, File):
            node.removed = path.read_bytes()
            return
        self._adopt(node, path)
        for file, inner in self._files(node, path):
            inner.removed = file.read_bytes()


class Synchronous:
    """A ThreadPoolExecutor whose calls are made at once, so that their order is always the same."""

    def __init__(self, *_: Any) -> None:
        pass

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, cancel_futures: bool = False) -> None:
        pass


class Late(Synchronous):
    """One whose calls are made when their results are asked for, or never."""

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.result = lambda timeout=None: self._made(future, call, args)  # type: ignore[method-assign]
        return future

    def _made(self, future: Future[Any], call: Callable[..., Any], args: Sequence[Any]) -> Any:
        if not future.done():
            future.set_result(call(*args))
        return Future.result(future)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0
