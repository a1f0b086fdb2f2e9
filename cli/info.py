"""fastseq info: what a folder is, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fastseq.errors import FormatError

from .options import Common, common_options, example, format_option, pass_common
from .output import coverage_line, write_json, write_pairs

UNITS = {"char": "characters", "byte": "bytes", "word": "words", "space": "words"}
MANIFEST, CHECKPOINT = "manifest.json", "checkpoint"  # as the library calls them
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
    """Say what PATH is, an index, a model or word vectors: its kind, sizes and settings.

    Of a model also what it learned (weights, classes, vocabulary) and how its training ended; of a
    training that did not end, how far it came. With --verify every byte is read, of models and
    vectors also those of a checkpoint: exit status 0 when all is well, 1 when a file is damaged or
    missing, each of which is named.
    """
    from fastseq.settings import format_size
    from fastseq.store import folder

    checkpoint = path / CHECKPOINT
    ended = (path / MANIFEST).exists() or not (checkpoint / MANIFEST).exists()
    root = path if ended else checkpoint
    said = folder.describe(root)
    of_kind = _OF_KIND.get(said["kind"], _of_index) if _is_known(said) else _of_index
    if of_kind is _of_model:
        said["history"] = _last_epoch(path, said["settings"].get("columns", {}))
    damaged = folder.verify(root) if verify else None
    if damaged is not None and of_kind in (_of_model, _of_vectors) and checkpoint.is_dir():
        damaged += _damaged_inside(checkpoint)
    if damaged is not None:
        said["damaged"] = damaged
    if form == "json":
        write_json(said)
    else:
        write_pairs(
            [
                ("kind", said["kind"]),
                *([] if ended else [("state", "a training that did not end; --resume goes on")]),
                ("format version", said["format_version"]),
                ("written by", f"fastseq {said['fastseq']}"),
                *of_kind(said),
                ("size", f"{format_size(said['bytes'])} in {len(said['files'])} files"),
                *((name, format_size(entry["bytes"])) for name, entry in said["files"].items()),
                *([("verified", "every file is whole")] if damaged == [] else []),
            ]
        )
    if damaged:
        raise FormatError(f"{root}: damaged or missing: {', '.join(damaged)}")


def _damaged_inside(checkpoint: Path) -> list[str]:
    """The damaged files of a model's checkpoint, named from the model's folder."""
    from fastseq.store.folder import verify

    try:
        wrong = verify(checkpoint)
    except FormatError:
        wrong = [MANIFEST]
    return [f"{checkpoint.name}/{name}" for name in wrong]


def _is_known(said: dict[str, Any]) -> bool:
    """Whether it is of the version whose entries are known here."""
    if said["kind"] not in _OF_KIND:
        return False
    # these import more than an index has need of
    from fastseq.models import folder
    from fastseq.training import checkpoint
    from fastseq.vectors import folder as vector_folder

    versions = {part.KIND: part.VERSION for part in (folder, checkpoint, vector_folder)}
    versions[checkpoint.VECTORS_KIND] = checkpoint.VECTORS_VERSION
    return bool(said["format_version"] == versions[said["kind"]])


def _of_index(said: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in _flat(said["statistics"]):
        yield name, _number(value)
    for name, value in _flat(said["settings"]):
        yield name, _listed(value)


def _of_model(said: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What it is, what it learned, its settings, and the last epoch of its training."""
    learned, fields = said["statistics"], said["statistics"].get("fields", {})
    yield "model", said["settings"].get("model")
    yield "parameters", _number(learned.get("parameters"))
    read = [(role, value) for role, value in fields.items() if value and role not in ("id", "keep")]
    yield "columns", ", ".join(f"{role}: {_listed(value)}" for role, value in read)
    if learned.get("labels"):
        classes = learned["labels"]["values"]
        yield "classes", f"{len(classes):,}: {_listed(classes)}"
    if learned.get("embeddings"):
        yield "embeddings found", coverage_line(learned["embeddings"])
    if learned.get("tag_scheme"):
        yield "tag scheme", learned["tag_scheme"]
    if learned.get("vocabulary"):
        vocabulary = learned["vocabulary"]
        unit = UNITS.get(vocabulary["units"]["unit"], "units")
        yield "vocabulary", f"{vocabulary['size']:,} {unit}"
    for name, value in _flat(said["settings"].get("settings", {})):
        yield name, f"{value:g}" if isinstance(value, float) else _listed(value)
    for name, value in (said["history"] or {}).items():
        shown = f"{value:.5g}" if isinstance(value, float) else _number(value)
        yield f"last epoch: {name.replace('_', ' ')}", shown


def _of_vectors(said: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What they are of, how many, how they were trained, and the end of that."""
    statistics, settings = dict(said["statistics"]), dict(said["settings"])
    yield "model", settings.pop("model", None) or "not said"
    settings.pop("dimensions", None)  # which the statistics have
    history = statistics.pop("history", None)
    for name, value in _flat(statistics):
        yield name, _number(value)
    for name, value in _flat(settings):
        yield name, f"{value:g}" if isinstance(value, float) else _listed(value)
    for name, values in (history if isinstance(history, dict) else {}).items():
        if isinstance(values, list) and values:
            value = values[-1]
            shown = f"{value:.5g}" if isinstance(value, float) else _number(value)
            yield f"last epoch: {name.replace('_', ' ')}", shown


def _of_checkpoint(said: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Of which training it is, how far that came, and with which settings."""
    identity, place = said["settings"]["identity"], said["statistics"]
    settings = identity.get("settings", identity)  # of word vectors
    if "model" in identity:
        yield "model", identity["model"]
    yield "epochs done", f"{place['epoch']:,} of {said['settings']['training']['epochs']:,}"
    yield "steps in the next", _number(place["step"])
    if place["diverged"]:
        yield "diverged", "yes: resume it with a lower learning rate or a clip"
    for name, value in _flat(settings):
        if name not in ("corpus", "valid", "start"):
            yield name, f"{value:g}" if isinstance(value, float) else _listed(value)


_OF_KIND = {
    "model": _of_model,
    "checkpoint": _of_checkpoint,
    "vectors": _of_vectors,
    "vectors checkpoint": _of_checkpoint,
}


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
