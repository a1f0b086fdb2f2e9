"""The state of a training run on disk, and the history of its epochs.

    MODEL/checkpoint/
      manifest.json        identity of the run, its settings, counters
      data-00000n/         one array each: all that the steps change, best weights, carried states,
                           columns of the history

A checkpoint is replaced atomically: a process killed at any moment leaves the previous one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, SettingsError, warn
from fastseq.store.folder import MANIFEST, Folder, as_json
from fastseq.store.writer import FolderWriter

KIND = "checkpoint"
VERSION = 1
VECTORS_KIND = "vectors checkpoint"  # of word vectors
VECTORS_VERSION = 2  # 1 had the counters in one entry, "state"
VECTORS_VERSIONS = (1, 2)  # that can be read

# settings that say when to stop or to save, not what is learned
MAY_CHANGE = frozenset({"epochs", "patience", "checkpoint_seconds"})
# may change too where the run diverged
AFTER_DIVERGING = MAY_CHANGE | {"learning_rate", "clip", "clip_value"}

# checksums of data in an identity, which do not show what changed
DATA = {
    "corpus": "the words of the corpus are",
    "valid": "the words held out are",
    "start": "the vectors to start from are",
    "data": "the training or validation data are",
    "data.base": "the weights of base=… are",
    "vocabulary, labels and scale": "the vocabulary, labels or scale of the training data are",
}
# settings that depend on the data
_OF_DATA = ("data", "parameters")

_HISTORY = "history/"
_COUNTS = ("epoch", "step")
_REQUIRED = ("epoch", "train_loss")
VALID = "valid_"

Arrays = dict[str, npt.NDArray[Any]]


class History:
    """One row for each epoch trained.

    Attributes
    ----------
    columns : {name: one value an epoch}
        epoch              1, 2, …
        train_loss         mean over the epoch's examples while the weights changed
        valid_loss, valid_… validation after the epoch; absent without validation
        seconds            wall-clock time of the epoch
      of models trained by an optimiser, whose seconds include validation:
        step               steps since training began
        learning_rate      of the epoch's last step
        gradient_norm      mean over steps of the gradient's Euclidean norm, before clipping
        units_per_second   tokens (or numbers) per second, without validation
      of word vectors and FastText's classifier:
        words              of the corpus; words_kept of them after subsampling (word vectors)
        words_per_second   without validation

    Times and speeds differ from run to run; all others repeat exactly.
    """

    def __init__(self, columns: Mapping[str, Sequence[float | None]] | None = None) -> None:
        """A history of the columns of a file; None there is NaN.

        Raises FormatError for a missing column or columns of different lengths.
        """
        self.columns: dict[str, list[float]] = {}
        for name in _REQUIRED if columns else ():
            if name not in (columns or {}):
                raise FormatError(f"a training history has no column {name!r}")
        for name, values in (columns or {}).items():
            kind = int if name in _COUNTS else float
            self.columns[name] = [nan if value is None else kind(value) for value in values]
        if len({len(column) for column in self.columns.values()}) > 1:
            raise FormatError("a training history has columns of different lengths")

    def append(self, row: Mapping[str, float], valid: Mapping[str, float]) -> None:
        """Add an epoch with the measures of its validation. Measures that an earlier version did
        not have are NaN in its epochs. Raises ValueError if validation measures less than before.
        """
        new = {**row, **{VALID + name: value for name, value in valid.items()}}
        if len(self) == 0:
            self.columns = {name: [] for name in new}
        if self.measures:
            self.columns.update({n: [nan] * len(self) for n in new if n not in self.columns})
        if new.keys() != self.columns.keys():
            raise ValueError(
                f"validation measured {', '.join(valid)}, but earlier {', '.join(self.measures)}"
            )
        for name, column in self.columns.items():
            column.append(int(new[name]) if name in _COUNTS else float(new[name]))

    @property
    def measures(self) -> list[str]:
        """The measures of validation: "loss" and names of metrics; empty without validation."""
        return [name.removeprefix(VALID) for name in self.columns if name.startswith(VALID)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each epoch as {column: value}."""
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def __len__(self) -> int:
        return len(self.columns.get("epoch", ()))


@dataclass(slots=True)
class State:
    """The position of a training run.

    epoch, step   epochs completed, and steps taken in the next one
    steps         steps since training began
    loss_sum, weight_sum, norm_sum, units, units_kept, seconds
                  running sums of the current epoch; units_kept are the words left by subsampling
    best_epoch    epochs completed when validation was best; 0 before the first
    best_value    the monitored measure then
    stale         epochs since then
    diverged      the run diverged after this position
    schedule      state of the learning-rate schedule
    history       of the epochs completed
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    norm_sum: float = 0.0
    units: int = 0
    units_kept: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_value: float = 0.0
    stale: int = 0
    diverged: bool = False
    schedule: dict[str, float | None] = field(default_factory=dict)
    history: History = field(default_factory=History)

    def begin_epoch(self) -> None:
        """Count the current epoch as completed and reset the sums."""
        self.epoch += 1
        self.step = self.units = self.units_kept = 0
        self.loss_sum = self.weight_sum = self.norm_sum = self.seconds = 0.0


# entries of the manifest; the history is saved as arrays
_COUNTERS: dict[str, type] = {
    f.name: dict if f.name == "schedule" else type(f.default)
    for f in fields(State)
    if f.name != "history"
}


class Checkpoint:
    """The checkpoint of one training run.

    path      the folder, `checkpoint` inside that of the model
    identity  the model's settings and a fingerprint of the data, which a resumed run must share
    kind      KIND or VECTORS_KIND
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any], kind: str = KIND) -> None:
        self.path = Path(path)
        self.identity = as_json(dict(identity))
        self._kind = kind

    def exists(self) -> bool:
        """Whether the folder has a checkpoint, of any run."""
        return (self.path / MANIFEST).exists()

    def save(self, training: Mapping[str, Any], state: State, arrays: Arrays) -> None:
        """Replace the checkpoint with these training settings, state and arrays; durable on return.
        Raises as FolderWriter: a foreign folder, another process trains there, a full disk."""
        columns = {name: np.asarray(values) for name, values in state.history.columns.items()}
        every = arrays | {_HISTORY + name: column for name, column in columns.items()}
        counters = {name: getattr(state, name) for name in _COUNTERS}
        version = VERSION if self._kind == KIND else VECTORS_VERSION
        with FolderWriter(self.path, self._kind, version, overwrite=True) as writer:
            for number, array in enumerate(every.values()):
                writer.array(f"array-{number}", np.asarray(array))
            shapes = [[name, list(array.shape)] for name, array in every.items()]
            writer.commit(
                {"identity": self.identity, "training": dict(training)},
                {**counters, "arrays": shapes},
            )

    def load(self, training: Mapping[str, Any]) -> tuple[State, Arrays]:
        """The state of the run, and copies of its arrays.

        Raises
        ------
        SettingsError
            It is a checkpoint of another run: which setting differs.
        FormatError
            There is none, or it is damaged: which file.
        """
        known = {VERSION} if self._kind == KIND else VECTORS_VERSIONS
        folder = Folder.open(self.path, self._kind, known)
        wrong = folder.damaged()
        if wrong:
            raise FormatError(
                f"{self.path / wrong[0]}: damaged: its checksum is wrong; the run cannot be "
                "resumed; train from the beginning"
            )
        try:
            state, arrays = _read(folder)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{self.path}: damaged: its entries make no sense") from error
        may_change = AFTER_DIVERGING if state.diverged else MAY_CHANGE
        now = {k: v for k, v in training.items() if k not in may_change}
        saved = folder.settings.get("training", {})
        then = {k: v for k, v in saved.items() if k not in may_change}
        change = " (only epochs and patience may change)" if "optimiser" in training else ""
        before, after = folder.settings["identity"] | then, self.identity | as_json(now)
        refuse_other(self.path, before, after, change)
        return state, arrays

    def mark_diverged(self, training: Mapping[str, Any]) -> None:
        """Record that the run diverged after this checkpoint, so that it can be resumed with
        another learning rate or clip."""
        state, arrays = self.load(training)
        state.diverged = True
        self.save(training, state, arrays)


def refuse_other(
    path: Path, before: Mapping[str, Any], after: Mapping[str, Any], change: str = ""
) -> None:
    """Raise SettingsError, naming the setting, if a run to be resumed had other settings or data.

    change  what may change all the same, for the message
    """
    were, are = dict(_flat(dict(before))), dict(_flat(as_json(dict(after))))
    # settings first: with another one the data look different, too
    for name in sorted(were.keys() | are.keys(), key=lambda name: (_is_of_data(name), name)):
        was, now = were.get(name, "not set"), are.get(name, "not set")
        if was == now:
            continue
        known = DATA.get(name, DATA["data"] if name.startswith("data.") else None)
        if known is not None:
            raise SettingsError(f"{path}: cannot resume: {known} not what they were in that run")
        raise SettingsError(
            f"{path}: cannot resume: {name} was {_brief(was)} in that run, now {_brief(now)}; "
            f"expected the same settings and data{change}"
        )


def refuse_other_data(
    path: Path, before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> None:
    """Raise SettingsError if a finished run to be resumed had other data. FastseqWarning for a
    folder of an earlier version, which does not identify its data (None)."""
    if before is None:
        warn(
            f"{path}: does not identify the data of its training, so only the settings were "
            "compared"
        )
    else:
        refuse_other(path, before, after)


def _read(folder: Folder) -> tuple[State, Arrays]:
    counters = folder.statistics
    every: Arrays = {
        str(name): np.array(folder.array(f"array-{number}")).reshape(shape)
        for number, (name, shape) in enumerate(counters["arrays"])
    }
    if "state" in counters:  # version 1 of word vectors
        was = counters["state"]
        words, words_kept, loss, terms, seconds = was["sums"]
        return State(
            was["epoch"], was["round"], loss_sum=loss, weight_sum=terms, units=int(words),
            units_kept=int(words_kept), seconds=seconds, history=History(was["history"]),
        ), every  # fmt: skip
    known = {"units_kept": 0, **counters}  # which older ones lack
    values = {name: kind(known[name]) for name, kind in _COUNTERS.items()}
    history = {name: column.tolist() for name, column in part_of(every, _HISTORY).items()}
    arrays = {name: array for name, array in every.items() if not name.startswith(_HISTORY)}
    return State(**values, history=History(history)), arrays


def part_of(arrays: Arrays, prefix: str) -> Arrays:
    """The arrays whose names begin with the prefix, without it."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def fingerprint_of(*arrays: npt.NDArray[Any] | None) -> list[int]:
    """A checksum of each array, for an identity."""
    return [0 if a is None else zlib.crc32(np.ascontiguousarray(a).data) for a in arrays]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in nested dicts."""
    if isinstance(value, dict) and (value or not name):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _is_of_data(name: str) -> bool:
    return name in DATA or name.partition(".")[0] in _OF_DATA


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
