"""What a training run needs to go on where it was: a folder that is replaced whole.

    MODEL/checkpoint/
      manifest.json        identity of the run, its settings, counters
      data-00000n/         all that the steps change, best weights, carried states, columns of the
                           history, each one array

It is a folder like every other of fastseq: a kill at any moment leaves the checkpoint before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, SettingsError
from fastseq.store.folder import MANIFEST, Folder, as_json
from fastseq.store.writer import FolderWriter
from fastseq.training.history import History

KIND = "checkpoint"
VERSION = 1
VECTORS_KIND = "vectors checkpoint"  # of word vectors
VECTORS_VERSION = 2  # 1 had the counters in one entry, "state"

# settings of training that say when to stop or to save, not what is learned
MAY_CHANGE = frozenset({"epochs", "patience", "checkpoint_seconds"})
# what the message about a diverged run tells people to change
AFTER_DIVERGING = MAY_CHANGE | {"learning_rate", "clip", "clip_value"}

# entries of an identity that stand for data: by them alone nobody can tell what changed
DATA = {
    "corpus": "the words of the corpus are",
    "valid": "the words held out are",
    "start": "the vectors to start from are",
}

_HISTORY = "history/"

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(slots=True)
class State:
    """Where a training run is.

    epoch, step   epochs completed, and steps taken in the one after them
    steps         taken since training began
    loss_sum, weight_sum, norm_sum, units, units_kept, seconds
                  running sums of the epoch begun; units_kept are the words left by subsampling
    best_epoch    epochs completed when validation was best; 0 before the first
    best_value    what was monitored then
    stale         epochs since then
    diverged      the run went on from here to values that are not finite
    schedule      what the schedule of learning rates remembers
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
        """Count an epoch as completed, and begin the sums anew."""
        self.epoch += 1
        self.step = self.units = self.units_kept = 0
        self.loss_sum = self.weight_sum = self.norm_sum = self.seconds = 0.0


# what lies in the manifest; the history lies in files
_COUNTERS: dict[str, type] = {
    f.name: dict if f.name == "schedule" else type(f.default)
    for f in fields(State)
    if f.name != "history"
}


class Checkpoint:
    """The checkpoint of one training run.

    Parameters
    ----------
    path : the folder, `checkpoint` inside that of the model
    identity : what must be the same for the run to be continued, beside the settings of training:
        the model's settings, a fingerprint of the corpus. JSON only, finite numbers.
    kind : KIND or VECTORS_KIND
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any], kind: str = KIND) -> None:
        self.path = Path(path)
        self.identity = as_json(dict(identity))
        self._kind = kind

    def exists(self) -> bool:
        """Whether there is one, of whatever run."""
        return (self.path / MANIFEST).exists()

    def save(self, training: Mapping[str, Any], state: State, arrays: Arrays) -> None:
        """Replace what is there; durable when this returns.

        Parameters
        ----------
        training : the settings of training
        arrays : of any shape, under any names

        Raises
        ------
        SettingsError, FastseqError
            As FolderWriter: the place is not ours, another process trains there, a full disk.
        """
        columns = {name: np.asarray(values) for name, values in state.history.columns.items()}
        every = arrays | {_HISTORY + name: column for name, column in columns.items()}
        counters = {name: getattr(state, name) for name in _COUNTERS}
        version = VERSION if self._kind == KIND else VECTORS_VERSION
        with FolderWriter(self.path, self._kind, version, overwrite=True) as writer:
            for number, array in enumerate(every.values()):
                writer.array(f"array-{number}", np.asarray(array))
            writer.commit(
                {"identity": self.identity, "training": dict(training)},
                {
                    **counters,
                    "arrays": [[name, list(array.shape)] for name, array in every.items()],
                },
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
        known = {VERSION} if self._kind == KIND else {1, VECTORS_VERSION}
        folder = Folder.open(self.path, self._kind, known)
        wrong = folder.damaged()
        if wrong:
            raise FormatError(
                f"{self.path / wrong[0]}: damaged: its checksum is wrong; the run cannot be "
                "resumed, train it anew"
            )
        try:
            state, arrays = _read(folder)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{self.path}: damaged: its entries make no sense") from error
        self._compare(folder.settings, training, state.diverged)
        return state, arrays

    def mark_diverged(self, training: Mapping[str, Any]) -> None:
        """Note that the run diverged after this checkpoint: it may then be resumed with another
        learning rate or clip."""
        state, arrays = self.load(training)
        state.diverged = True
        self.save(training, state, arrays)

    def _compare(
        self, saved: Mapping[str, Any], training: Mapping[str, Any], diverged: bool
    ) -> None:
        may_change = AFTER_DIVERGING if diverged else MAY_CHANGE
        kept = {name: value for name, value in training.items() if name not in may_change}
        then = {k: v for k, v in saved.get("training", {}).items() if k not in may_change}
        change = " (only epochs and patience may change)" if "optimiser" in training else ""
        refuse_other(self.path, saved["identity"], self.identity, change)
        refuse_other(self.path, then, kept, change)


def refuse_other(
    path: Path, before: Mapping[str, Any], after: Mapping[str, Any], change: str = ""
) -> None:
    """Raise SettingsError where a run that is to be resumed was another one: which setting."""
    were, are = dict(_flat(dict(before))), dict(_flat(as_json(dict(after))))
    # settings first: with another one the data look different, too
    for name in sorted(were.keys() | are.keys(), key=lambda name: (name in DATA, name)):
        was, now = were.get(name, "not set"), are.get(name, "not set")
        if was == now:
            continue
        if name in DATA:
            raise SettingsError(
                f"{path}: cannot resume: {DATA[name]} not what they were in that run"
            )
        raise SettingsError(
            f"{path}: cannot resume: {name} was {_brief(was)} in that run, now {_brief(now)}; "
            f"expected the same settings and data{change}"
        )


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
    known = {"units_kept": 0, **counters}  # which older ones have not
    values = {name: kind(known[name]) for name, kind in _COUNTERS.items()}
    history = {
        n.removeprefix(_HISTORY): a.tolist() for n, a in every.items() if n.startswith(_HISTORY)
    }
    arrays = {name: array for name, array in every.items() if not name.startswith(_HISTORY)}
    return State(**values, history=History(history)), arrays


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in nested dicts."""
    if isinstance(value, dict) and (value or not name):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
