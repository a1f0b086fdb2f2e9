"""fastseq info: what a folder is, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fastseq.errors import FormatError

from .options import Common, common_options, example, format_option, pass_common
from .output import write_json, write_pairs

_SHOWN = 20  # values of a list before the rest is counted only


@click.command(
    "info",
    epilog=example(
        "fastseq info .fastseq/index --verify", "fastseq info .fastseq/model --format json"
    ),
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Read every file and compare its checksum.")
@format_option("table", "json", default="table", help="Form of the answer.")
@common_options
@pass_common
def command(common: Common, path: Path, verify: bool, form: str) -> None:
    """Say what PATH is, an index or a model: its kind, sizes and settings.

    Of a model also what it learned (weights, classes, vocabulary) and how its training ended.
    With --verify every byte is read: exit status 0 when all is well, 1 when a file is damaged or
    missing, each of which is named.
    """
    from fastseq.settings import format_size
    from fastseq.store import folder

    said = folder.describe(path)
    shown = dict(said["settings"])
    if said["kind"] == "model":
        said["history"] = _last_epoch(path, shown.pop("columns", {}))
        shown = {"model": shown.get("model"), **shown.get("settings", {})}
    damaged = folder.verify(path) if verify else None
    if damaged is not None:
        said["damaged"] = damaged
    if form == "json":
        write_json(said)
    else:
        write_pairs(
            [
                ("kind", said["kind"]),
                ("format version", said["format_version"]),
                ("written by", f"fastseq {said['fastseq']}"),
                *((name, _listed(_number(value))) for name, value in _flat(said["statistics"])),
                *((name, _listed(value)) for name, value in _flat(shown)),
                *((f"last epoch: {k}", v) for k, v in (said.get("history") or {}).items()),
                ("size", f"{format_size(said['bytes'])} in {len(said['files'])} files"),
                *((name, format_size(entry["bytes"])) for name, entry in said["files"].items()),
                *([("verified", "every file is whole")] if damaged == [] else []),
            ]
        )
    if damaged:
        raise FormatError(f"{path}: damaged or missing: {', '.join(damaged)}")


def _last_epoch(path: Path, columns: dict[str, list[str]]) -> dict[str, Any] | None:
    """The last line of a model's history; None where it has none, or one that cannot be read,
    which --verify names."""
    from fastseq.models.folder import HISTORY, KIND, VERSION
    from fastseq.store.folder import Folder

    names = columns.get(HISTORY)
    try:
        values = names and Folder.open(path, KIND, {VERSION}).columns(HISTORY, names)
    except FormatError:
        return None
    return {n: v[-1] for n, v in zip(names or (), values or (), strict=True) if v} or None


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of nested settings, the outer name before the inner one."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _number(value: Any) -> Any:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def _listed(value: Any) -> Any:
    if value is None or value in ([], {}):
        return "-"
    if not isinstance(value, list):
        return value
    more = f" and {len(value) - _SHOWN:,} more" if len(value) > _SHOWN else ""
    return ", ".join(map(str, value[:_SHOWN])) + more
