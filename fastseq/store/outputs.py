"""Which files fastseq wrote, and the rule for naming an output.

An output is never an input of the same call, under any name. It replaces an existing file only if
fastseq wrote that file as the same kind of output, or with `overwrite`. Writers check this before
their work begins; for folders FolderWriter checks again.

Outputs of fastseq carry a mark: folders their manifest, Parquet an entry in the file's metadata,
.npz the archive's comment, TREC runs their tag, pictures their metadata. Other formats (.tsv, .vec,
.bin) have no place for one.
"""

from __future__ import annotations

import glob
import json
import os
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastseq.errors import DataError, SettingsError
from fastseq.settings import file_path
from fastseq.store.files import COMPRESSIONS, opened
from fastseq.store.folder import MANIFEST, is_ours
from fastseq.store.locations import format_of, glob_matches, local_path

TAG = "fastseq"  # the last column of a TREC run
NPZ_COMMENT = b"fastseq: matrix"
# suffix -> matplotlib's metadata of a picture: the mark, and no creation time
PICTURES: dict[str, dict[str, str | None]] = {
    ".png": {"Source": "fastseq"},
    ".svg": {"Source": "fastseq", "Date": None},
    ".pdf": {"Keywords": "fastseq", "CreationDate": None},
}
_PICTURE_MARKS = (b"tEXtSource\0fastseq", b"<dc:source>fastseq</dc:source>", b"/Keywords (fastseq)")
_ENDS = 1 << 16  # bytes examined at the beginning and at the end of a file

# kind of output -> its name in messages
KINDS = {
    "index": "an index",
    "model": "a model",
    "checkpoint": "the checkpoint of a model",
    "vectors": "a folder of word vectors",
    "vectors checkpoint": "the checkpoint of word vectors",
    "features": "a saved feature extractor",
    "run": "a run of fastseq",
    "matrix": "a document-term matrix of fastseq",
    "terms": "the terms of a document-term matrix",
    "predictions": "predictions of fastseq",
    "word vectors": "word vectors of fastseq in Parquet",
    "fastText model": "a fastText model of fastseq",
    "gradient flow": "the gradient flow of a training",
    "picture": "a picture of fastseq",
    "sample": "a sample corpus of fastseq",
}
# the first bytes of other files -> their format
_FORMATS = {
    b"PAR1": "Parquet file",
    b"\xba\x16\x4f\x2f": "fastText model",
    b"PK": "zip archive",
    b"\x1f\x8b": "gzip file",
    b"\x28\xb5\x2f\xfd": "zstd file",
    b"\x89PNG": "PNG picture",
    b"%PDF": "PDF document",
    b"\x93NUMPY": "NumPy array",
    b"\x80\x02": "pickle",
    b"\x80\x04": "pickle",
}

# names in a folder of fastseq that belong to it, apart from links to data files
_OWN = re.compile(rf"{re.escape(MANIFEST)}|lock|checkpoint|data-\d{{6,}}(\.tmp)?")


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """The kind of output, of KINDS, that fastseq wrote at `path`; None without a mark."""
    with suppress(OSError):
        if os.path.isdir(path):
            return _folder_kind(Path(path))
        if not os.path.isfile(path):  # opening a pipe would block
            return None
        with open(path, "rb") as file:
            head = file.read(_ENDS)
            file.seek(max(file.seek(0, os.SEEK_END) - _ENDS, 0))
            tail = file.read()
        if head.startswith(b"PAR1"):
            return _parquet_kind(path)
        if head.startswith(b"PK"):
            with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
                return "matrix" if archive.comment == NPZ_COMMENT else None
        if head.startswith((b"\x89PNG", b"%PDF", b"<?xml")):
            marked = any(mark in part for mark in _PICTURE_MARKS for part in (head, tail))
            return "picture" if marked else None
        if head.startswith(tuple(COMPRESSIONS)):
            return "run" if _is_compressed_run(path) else None
        lines = (head.partition(b"\n")[0], tail.rstrip(b"\n").rpartition(b"\n")[2])
        if all(map(_is_run_line, lines)):
            return "run"
    return None


def _is_run_line(line: bytes) -> bool:
    fields = line.split()
    return len(fields) == 6 and fields[1] == b"Q0" and fields[5] == TAG.encode()


def _is_compressed_run(path: str | os.PathLike[str]) -> bool:
    with suppress(OSError, EOFError, zlib.error), opened(path) as file:
        tail = file.read(_ENDS)
        if not _is_run_line(tail.partition(b"\n")[0]):
            return False
        while part := file.read(1 << 20):
            tail = (tail + part)[-_ENDS:]
        return _is_run_line(tail.rstrip(b"\n").rpartition(b"\n")[2])
    return False


def described(path: str | os.PathLike[str]) -> str:
    """What is at `path`, for a message: "an index", "a Parquet file", …"""
    kind = kind_of(path)
    if kind is not None:
        return KINDS.get(kind, f"of the kind {kind!r}")
    with suppress(OSError):
        if os.path.isdir(path):
            inner = kind_of(Path(path) / "checkpoint")
            if inner is not None:
                return f"{KINDS.get(inner, inner)} of an unfinished training"
            return f"a folder without {MANIFEST}" if os.listdir(path) else "an empty folder"
        if not os.path.isfile(path):
            return "a device or a pipe" if os.path.lexists(path) else "no such file or folder"
        with open(path, "rb") as file:
            head = file.read(8)
        found = next((name for start, name in _FORMATS.items() if head.startswith(start)), None)
        if found is None:
            return "a file of another program" if head else "an empty file"
        return f"a {found}"
    return "a file that cannot be read"


def _folder_kind(folder: Path) -> str | None:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads((folder / MANIFEST).read_bytes())
        return str(content["kind"]) if is_ours(content) else None
    return None


def _parquet_kind(path: str | os.PathLike[str]) -> str | None:
    import pyarrow as pa

    from fastseq.store.parquet import KEY, parquet_file

    with suppress(pa.ArrowException, ValueError, AttributeError), parquet_file(path) as file:
        mark = json.loads((file.metadata.metadata or {}).get(KEY, b"{}"))
        # terms files of the first version do not name their kind
        kind = mark.get("kind", "terms" if "settings" in mark else None)
        return kind if isinstance(kind, str) else None
    return None


def check_output(
    path: str | os.PathLike[str],
    kind: str,
    inputs: Any = None,
    *,
    suffixes: Collection[str] = (),
    others: Collection[str | os.PathLike[str] | None] = (),
    overwrite: bool = False,
) -> None:
    """Refuse an output file that must not or cannot be written.

    Parameters
    ----------
    kind : of output, of KINDS or another name for one without a mark
    inputs : the inputs of the same call: paths, folders and globs, or lists of those at any depth;
        anything else is ignored
    suffixes : the suffixes allowed; none: all
    others : further outputs of the same call
    overwrite : replace an existing file that is not known to be of this kind

    Raises SettingsError: `path` has another suffix, is a folder, is in a folder that does not
    exist, is an input, is one of `others`, or exists and may not be replaced.
    """
    target = Path(path)
    if suffixes and not (target.suffix and target.name.lower().endswith(tuple(suffixes))):
        *first, last = suffixes
        listed = f"{', '.join(first)} or {last}" if first else last
        raise SettingsError(f"{path}: the name of this output must end in {listed}")
    for source in _paths(inputs):
        _refuse_input(target, source)
    if target.is_dir():
        raise SettingsError(f"{path}: is a folder, expected a file to write to")
    if not target.parent.is_dir():
        raise SettingsError(f"{path}: no such folder: {target.parent}")
    for other in others:
        if other is not None and _is_same(target, Path(other)):
            raise SettingsError(f"{path}: is named as an output twice")
    # an empty file may be replaced; pipes and terminals are written to, not replaced
    if overwrite or not target.is_file() or not target.stat().st_size:
        return
    found = kind_of(target)
    if found != kind:
        known = "not known to be" if found is None else f"{described(target)}, not"
        wanted = KINDS.get(kind, f"{kind} of fastseq")
        raise SettingsError(
            f"{path}: already exists and is {known} {wanted}: overwrite=True replaces it"
        )


def check_folder(path: str | os.PathLike[str] | None, *inputs: Any) -> None:
    """Refuse an output folder that is an input of the same call, or contains one.

    path : None: nothing is written
    inputs : paths, folders and globs, or lists of those as `dataset.are_paths` decides; anything
        else is ignored

    Raises SettingsError.
    """
    if path is None or not file_path("path", path).is_dir():
        return
    from fastseq.store.dataset import are_paths  # imports pyarrow

    inside = Path(path).resolve()
    lists = [each for each in inputs if not isinstance(each, list | tuple) or are_paths(each)]
    for source in _paths(lists):
        given = Path(source)
        if _is_same(inside, given):
            raise SettingsError(f"{path}: is also an input, expected another output")
        for file in _files(given):
            if inside in file.resolve().parents:
                raise SettingsError(f"{path}: holds the input {file}, expected another output")


def _refuse_input(target: Path, given: Path) -> None:
    """Raise SettingsError where reading `given` reads `target`, or would once it is written."""
    if _is_same(target, given) or any(_is_same(target, file) for file in _files(given)):
        raise SettingsError(f"{target}: is also an input, expected another output")
    is_glob = not given.exists() and glob.has_magic(str(given))
    folders = map(Path, glob.glob(str(given), recursive=True)) if is_glob else [given]
    target_parts, pattern = (Path(os.path.abspath(path)).parts for path in (target, given))
    if (is_glob and glob_matches(target_parts, pattern)) or any(
        _is_read_in(folder.resolve(), target.resolve()) for folder in folders if folder.is_dir()
    ):
        raise SettingsError(
            f"{target}: would be part of the input {given}, expected an output elsewhere"
        )


def _is_read_in(folder: Path, target: Path) -> bool:
    """Whether reading the folder reads the file, which need not exist; both are resolved."""
    if folder not in target.parents:
        return False
    parts = target.relative_to(folder).parts
    if kind_of(folder) is not None:
        linked = len(parts) == 1 and any(folder.glob(f"data-*/{glob.escape(parts[0])}"))
        return linked or bool(_OWN.fullmatch(parts[0]))
    above = [folder.joinpath(*parts[:n]) for n in range(1, len(parts))]
    return (
        format_of(target) is not None
        and not any(part[0] in "._" for part in parts)
        and all(kind_of(each) is None for each in above)
    )


def _files(given: Path) -> list[Path]:
    """The files that are read of a path: itself, those below it, or those that a glob finds."""
    from fastseq.store.data_files import search_path

    try:
        return search_path(given, [])[1]
    except (DataError, OSError, ValueError):  # not found, which its reader reports
        return []


def _is_same(a: Path, b: Path) -> bool:
    """Whether two paths are one file, through links and under any name."""
    if os.path.exists(a) and os.path.exists(b):
        return os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)


def _paths(inputs: Any) -> Iterator[Path]:
    if isinstance(inputs, str | os.PathLike):
        path = local_path(inputs)
        if path is not None:
            yield path
    elif isinstance(inputs, list | tuple | set):
        for each in inputs:
            yield from _paths(each)
