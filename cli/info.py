"""fastseq info: what a folder is, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fastseq.errors import FormatError

from .options import Common, common_options, example, format_option, pass_common
from .output import write_json, write_pairs


@click.command("info", epilog=example("fastseq info .fastseq/index --verify"))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Read every file and compare its checksum.")
@format_option("table", "json", default="table", help="Form of the answer.")
@common_options
@pass_common
def command(common: Common, path: Path, verify: bool, form: str) -> None:
    """Say what PATH is: its kind, sizes and settings.

    With --verify every byte is read: exit status 0 when all is well, 1 when a file is damaged or
    missing, each of which is named.
    """
    from fastseq.settings import format_size
    from fastseq.store import folder

    said = folder.describe(path)
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
                *((name, _number(value)) for name, value in _flat(said["statistics"])),
                *((name, _listed(value)) for name, value in _flat(said["settings"])),
                ("size", f"{format_size(said['bytes'])} in {len(said['files'])} files"),
                *((name, format_size(entry["bytes"])) for name, entry in said["files"].items()),
                *([("verified", "every file is whole")] if damaged == [] else []),
            ]
        )
    if damaged:
        raise FormatError(f"{path}: damaged or missing: {', '.join(damaged)}")


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
    return ", ".join(map(str, value)) if isinstance(value, list) else value
