"""fastseq info: the description of a folder, and whether its files are intact."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import click

from fastseq.errors import FormatError
from fastseq.index import VERSIONS

from . import options
from .options import FILE, Common, command
from .output import coverage_line, write_json, write_pairs

UNITS = {"char": "characters", "byte": "bytes", "word": "words", "space": "words"}
MANIFEST, CHECKPOINT = "manifest.json", "checkpoint"  # names in the library
_SHOWN = 20  # maximum number of values of a list that are shown
_SEGMENTS = 10  # maximum number of segments that are shown


@command(
    "info", "fastseq info .fastseq/index --verify", "fastseq info .fastseq/model --format json"
)
@click.argument("path", type=FILE)
@click.option("--verify", is_flag=True, help="Read every file and compare its checksum.")
@options.form("table", "json")
def info(common: Common, path: Path, verify: bool, form: str) -> None:
    """Describe an index, a model or word vectors in PATH: kind, sizes and settings.

    PATH may also be a checkpoint of BERT in Hugging Face's format, which has no checksums: for it,
    --verify looks for a number in the weights that is not finite.

    For a model also what it learned (weights, classes, vocabulary) and how its training ended;
    for an unfinished training, its progress. --verify reads every byte, for models and vectors
    also those of a checkpoint: exit status 0 if all files are intact, 1 if a file is damaged or
    missing; all of these are named.
    """
    from fastseq.models.bert.checkpoint import is_checkpoint
    from fastseq.settings import format_size
    from fastseq.store import folder

    if is_checkpoint(path) and not (path / MANIFEST).exists():
        _show_pretrained(path, verify, form)
        return
    checkpoint = path / CHECKPOINT
    ended = (path / MANIFEST).exists() or not (checkpoint / MANIFEST).exists()
    root = path if ended else checkpoint
    content = folder.describe(root, _versions)
    of_kind = _OF_KIND.get(content["kind"], _of_index) if _is_known(content) else _of_index
    if of_kind is _of_model:
        content["history"] = _last_epoch(path, content["settings"].get("columns", {}))
    damaged = folder.verify(root, _versions) if verify else None
    if damaged is not None and of_kind in (_of_model, _of_vectors) and checkpoint.is_dir():
        damaged += _damaged_inside(checkpoint)
    if damaged is not None:
        content["damaged"] = damaged
    if form == "json":
        write_json(content)
    else:
        files = content["files"]
        size = f"{format_size(content['bytes'])} in {_plural(len(files), 'file')}"
        write_pairs(
            [
                ("kind", content["kind"]),
                *([] if ended else [("state", "unfinished training; --resume continues it")]),
                ("format version", content["format_version"]),
                ("written by", f"fastseq {content['fastseq']}"),
                *of_kind(content),
                ("size", size),
                *((name, format_size(entry["bytes"])) for name, entry in files.items()),
                *([("verified", "all files are intact")] if damaged == [] else []),
            ]
        )
    if damaged:
        raise FormatError(f"{root}: damaged or missing: {', '.join(damaged)}")


def _show_pretrained(path: Path, verify: bool, form: str) -> None:
    """Describe a checkpoint in Hugging Face's format. Raises FormatError for one that cannot be
    used, with `verify` also for NaN and infinite weights."""
    import numpy as np

    from fastseq.models.bert.checkpoint import read_checkpoint, tokenizer_of
    from fastseq.nn.precisions import PRECISIONS, has_instructions

    found = read_checkpoint(path)
    config, sentences, tokenizer = found.config, found.sentences, tokenizer_of(found)
    arrays = {**found.weights, **found.others}
    if verify:
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise FormatError(f"{path}: {name} has numbers that are not finite")
    fast = [name for name in PRECISIONS if has_instructions(name)]
    content = {
        "kind": "checkpoint of BERT",
        "parameters": sum(array.size for array in arrays.values()),
        "layers": config.layers,
        "hidden": config.hidden,
        "heads": config.heads,
        "intermediate": config.intermediate,
        "positions": config.positions,
        "vocabulary": len(tokenizer),
        "pooling": sentences.pooling,
        "normalize": sentences.normalize,
        "max_length": sentences.most,
        "prompts": sorted(sentences.prompts),
        "other_arrays": sorted({name.split(".")[0] for name in found.others}),
        "precisions_of_this_cpu": fast,
    }
    if form == "json":
        write_json(content)
    else:
        write_pairs(
            [
                (name.replace("_", " "), _number(_listed(value)))
                for name, value in content.items()
            ]
            + ([("verified", "all weights are finite")] if verify else [])
        )


def _damaged_inside(checkpoint: Path) -> list[str]:
    """The damaged files of a model's checkpoint, named from the model's folder."""
    from fastseq.store.folder import VersionError, verify

    try:
        wrong = verify(checkpoint, _versions)
    except VersionError:
        raise
    except FormatError:
        wrong = [MANIFEST]
    return [f"{checkpoint.name}/{name}" for name in wrong]


def _is_known(content: dict[str, Any]) -> bool:
    """Whether its format version is the present one, whose entries are known here."""
    kind = content["kind"]
    return kind in _OF_KIND and content["format_version"] == max(_versions(kind) or ())


def _versions(kind: str) -> Collection[int] | None:
    """The format versions of a kind that can be read; None for an unknown kind."""
    from fastseq import index

    if kind == index.KIND:
        return index.VERSIONS
    # imported only for other kinds
    from fastseq.features import estimators
    from fastseq.models import folder
    from fastseq.training import checkpoint
    from fastseq.vectors import folder as vector_folder

    parts = (estimators, folder, checkpoint, vector_folder)
    versions = {part.KIND: (part.VERSION,) for part in parts}
    return {**versions, checkpoint.VECTORS_KIND: checkpoint.VECTORS_VERSIONS}.get(kind)


def _of_index(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The statistics, those of the first segments where there are several, and the settings."""
    statistics = dict(content["statistics"])
    segments = []
    if content["format_version"] in VERSIONS[1:]:
        segments = statistics.pop("segments")
        statistics.pop("deleted", None)  # the name of a file
    if len(segments) > 1:
        statistics.pop("terms", None)  # a sum: segments share terms
    for name, value in _flat(statistics):
        yield name, _number(value)
    if segments:
        yield "segments", _number(len(segments))
        if deleted := sum(segment["deleted"] for segment in segments):
            yield "deleted documents", _number(deleted)
        if reordered := sum(segment.get("reordered", False) for segment in segments):
            yield "reordered segments", _number(reordered)
        if graphs := sum(segment.get("graph", False) for segment in segments):
            yield "segments with a graph", _number(graphs)
    for segment in segments[:_SEGMENTS] if len(segments) > 1 else ():
        deleted = f" ({segment['deleted']:,} deleted)" if segment["deleted"] else ""
        order = ", reordered" if segment.get("reordered") else ""
        graph = ", with a graph" if segment.get("graph") else ""
        yield segment["name"], _plural(segment["documents"], "document") + deleted + order + graph
    if others := segments[_SEGMENTS:]:
        documents = sum(segment["documents"] for segment in others)
        yield f"{len(others):,} more", _plural(documents, "document")
    settings = dict(content["settings"])
    if isinstance(schema := settings.pop("schema", None), str):
        from fastseq.store.documents import read_schema

        fields = read_schema(schema, "the manifest")
        settings["stored_columns"] = [f"{field.name} ({field.type})" for field in fields]
    yield from ((name, _listed(value)) for name, value in _flat(settings))


def _of_model(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The columns, what was learned, the settings, and the last epoch of training."""
    learned, fields = content["statistics"], content["statistics"].get("fields", {})
    yield "model", content["settings"].get("model")
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
    if learned.get("tokenizer"):
        yield "vocabulary", f"{learned['tokenizer']['size']:,} word pieces"
        yield "maximum length", f"{learned['max_length']:,} tokens"
    yield from _settings(content["settings"].get("settings", {}))
    yield from _epoch(content["history"] or {})


def _of_vectors(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The statistics, the settings, and the last epoch of training."""
    statistics, settings = dict(content["statistics"]), dict(content["settings"])
    yield "model", settings.pop("model", None) or "unknown"
    settings.pop("dimensions", None)  # also in the statistics
    statistics.pop("data", None)  # checksums
    history = statistics.pop("history", None)
    for name, value in _flat(statistics):
        yield name, _number(value)
    yield from _settings(settings)
    columns = history if isinstance(history, dict) else {}
    yield from _epoch({n: v[-1] for n, v in columns.items() if isinstance(v, list) and v})


def _of_checkpoint(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The model, the progress of its training, and the settings."""
    identity, place = content["settings"]["identity"], content["statistics"]
    settings = identity.get("settings", identity)  # the latter of word vectors
    if "model" in identity:
        yield "model", identity["model"]
    yield "epochs done", f"{place['epoch']:,} of {content['settings']['training']['epochs']:,}"
    yield "steps in the next", _number(place["step"])
    if place["diverged"]:
        yield "diverged", "yes: resume it with a lower learning rate or a clip"
    others = ("corpus", "valid", "start")
    yield from (pair for pair in _settings(settings) if pair[0] not in others)


_OF_KIND = {
    "model": _of_model,
    "checkpoint": _of_checkpoint,
    "vectors": _of_vectors,
    "vectors checkpoint": _of_checkpoint,
}


def _last_epoch(path: Path, columns: dict[str, list[str]]) -> dict[str, Any] | None:
    """The last row of a model's history; None if there is none, or if it is damaged, which
    --verify reports."""
    from fastseq.models.folder import HISTORY, KIND, VERSION
    from fastseq.store.folder import Folder

    names = columns.get(HISTORY)
    try:
        values = names and Folder.open(path, KIND, {VERSION}).columns(HISTORY, names)
    except FormatError:
        return None
    return {n: v[-1] for n, v in zip(names or (), values or (), strict=True) if v} or None


def _epoch(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        shown = f"{value:.5g}" if isinstance(value, float) else _number(value)
        yield f"last epoch: {name.replace('_', ' ')}", shown


def _settings(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in _flat(values):
        yield name, f"{value:g}" if isinstance(value, float) else _listed(value)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of nested settings; names are joined by a dot."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


def _number(value: Any) -> Any:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def _listed(value: Any) -> Any:
    if value is None or value in ([], {}):
        return "-"
    if not isinstance(value, list):
        return value
    more = f" and {len(value) - _SHOWN:,} more" if len(value) > _SHOWN else ""
    return ", ".join(map(str, value[:_SHOWN])) + more
