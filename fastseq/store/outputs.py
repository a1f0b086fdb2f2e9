"""The one rule for what a person names as an output.

An output is never an input of the same call, under whatever name. It replaces an existing file
only if fastseq wrote that file as the same kind of output (identify.kind_of), or with `overwrite`.
Whoever writes asks here before the work begins; folders have FolderWriter as a second guard.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fastseq.errors import DataError, SettingsError
from fastseq.settings import file_path
from fastseq.store.identify import KINDS, described, kind_of
from fastseq.store.manifest import MANIFEST

_PARQUET = ".parquet"
# names in a folder of fastseq that are part of it, but for second names of data files
_OWN = re.compile(rf"{re.escape(MANIFEST)}|lock|checkpoint|data-\d{{6}}(\.tmp)?")


def check_output(
    path: str | os.PathLike[str],
    kind: str,
    inputs: Any = None,
    *,
    suffixes: Collection[str] = (),
    others: Collection[str | os.PathLike[str] | None] = (),
    overwrite: bool = False,
) -> None:
    """Refuse a file to write that must not or cannot be written.

    Parameters
    ----------
    kind : of output, of identify.KINDS or any other name for one that no mark tells
    inputs : what the same call reads: paths, folders and globs, or lists of those at any depth;
        whatever is no path is passed over
    suffixes : that the name may end in; none: all
    others : further outputs of the same call
    overwrite : replace an existing file that is not known to be of this kind

    Raises
    ------
    SettingsError
        `path` has another suffix, is a folder, lies in none, is an input, is one of `others`, or
        exists and may not be replaced.
    """
    target = Path(path)
    if suffixes and target.suffix.lower() not in suffixes:
        *first, last = suffixes
        listed = f"{', '.join(first)} or {last}" if first else last
        raise SettingsError(f"{path}: the name of this output must end in {listed}")
    for source in _paths(inputs):
        _refuse_input(target, Path(source))
    if target.is_dir():
        raise SettingsError(f"{path}: is a folder, expected a file to write to")
    if not target.parent.is_dir():
        raise SettingsError(f"{path}: no such folder: {target.parent}")
    for other in others:
        if other is not None and _is_same(target, Path(other)):
            raise SettingsError(f"{path}: is named as an output twice")
    # nothing is lost with an empty file; pipes and terminals are written to, not replaced
    if overwrite or not target.is_file() or not target.stat().st_size:
        return
    found = kind_of(target)
    if found != kind:
        known = "not known to be" if found is None else f"{described(target)}, not"
        wanted = KINDS.get(kind, f"{kind} of fastseq")
        raise SettingsError(
            f"{path}: already exists and is {known} {wanted}: overwrite=True replaces it"
        )


def check_folder(path: str | os.PathLike[str] | None, *inputs: Any, texts: bool = False) -> None:
    """Refuse a folder to write that is an input of the same call, or holds one.

    path : None: nothing is written
    inputs : as check_output has them
    texts : strings in a list may be texts, and are paths only where they end in .parquet

    Raises SettingsError.
    """
    if path is None or not file_path("path", path).is_dir():
        return
    inside = Path(path).resolve()
    for source in _paths(inputs, texts):
        given = Path(source)
        if _is_same(inside, given):
            raise SettingsError(f"{path}: is also an input, expected another output")
        for file in _files(given):
            if inside in file.resolve().parents:
                raise SettingsError(f"{path}: holds the input {file}, expected another output")


def _refuse_input(target: Path, given: Path) -> None:
    """Raise SettingsError where reading `given` reads `target`, or would once it was written."""
    if _is_same(target, given) or any(_is_same(target, file) for file in _files(given)):
        raise SettingsError(f"{target}: is also an input, expected another output")
    is_glob = not given.exists() and glob.has_magic(str(given))
    folders = map(Path, glob.glob(str(given), recursive=True)) if is_glob else [given]
    if (is_glob and _matches(_absolute(target).parts, _absolute(given).parts)) or any(
        _is_read_in(folder.resolve(), target.resolve()) for folder in folders if folder.is_dir()
    ):
        raise SettingsError(
            f"{target}: would be part of the input {given}, expected an output elsewhere"
        )


def _is_read_in(folder: Path, target: Path) -> bool:
    """Whether a file, there or not yet, is what is read of a folder, both resolved."""
    if folder not in target.parents:
        return False
    parts = target.relative_to(folder).parts
    if kind_of(folder) is not None:
        second = any((folder / data / parts[0]).exists() for data in _data_folders(folder))
        return bool(_OWN.fullmatch(parts[0])) or (len(parts) == 1 and second)
    above = [folder.joinpath(*parts[:n]) for n in range(1, len(parts))]
    return (
        target.suffix.lower() == _PARQUET
        and not any(part[0] in "._" for part in parts)
        and all(kind_of(each) is None for each in above)
    )


def _data_folders(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith("data-")]


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a glob, which `**` makes one of any depth, finds the path of these parts."""
    if not pattern or not parts:
        return parts == pattern
    hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (not hidden and _matches(parts[1:], pattern))
    return not hidden and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _files(given: Path) -> list[Path]:
    """The files that are read of a path: itself, those below it, or those that a glob finds."""
    from fastseq.store.sources import find_files

    try:
        return find_files([given])
    except (DataError, OSError, ValueError):  # nothing there; whoever reads it says so
        return []


def _is_same(a: Path, b: Path) -> bool:
    """Whether two paths are one file, through links and under whatever names."""
    if os.path.exists(a) and os.path.exists(b):
        return os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _paths(inputs: Any, texts: bool = False) -> Iterator[str | os.PathLike[str]]:
    if isinstance(inputs, str | os.PathLike):
        yield inputs
    elif isinstance(inputs, list | tuple | set):
        may_be_texts = texts and isinstance(inputs, list)
        for each in inputs:
            if not (may_be_texts and isinstance(each, str) and not each.endswith(_PARQUET)):
                yield from _paths(each, texts)
