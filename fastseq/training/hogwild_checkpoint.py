"""What a training of word vectors needs to go on where it was: a folder that is replaced whole.

VECTORS/checkpoint/
  manifest.json        identity of the run, epochs and rounds completed, history
  data-00000n/         the arrays that are learned
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fastseq.errors import FormatError, SettingsError
from fastseq.store.folder import Folder
from fastseq.store.writer import FolderWriter
from fastseq.training.hogwild import State
from fastseq.types import Float32

CHECKPOINT = "checkpoint"  # folder of the checkpoint inside that of the vectors
KIND = "vectors checkpoint"
VERSION = 1

# entries of an identity that say what was read, not how
DATA = {
    "corpus": "the words of the corpus are",
    "valid": "the words held out are",
    "start": "the vectors to start from are",
}


class Checkpoint:
    """The checkpoint of one training.

    Parameters
    ----------
    vectors : the folder that the vectors are to stand in
    identity : what must be the same for the training to be continued; JSON
    """

    def __init__(self, vectors: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(vectors) / CHECKPOINT
        self.identity = json.loads(json.dumps(dict(identity), allow_nan=False))

    def save(self, state: State, arrays: Mapping[str, Float32]) -> None:
        """Replace what is there; durable when this returns.

        Raises SettingsError or FastseqError as FolderWriter does: the place is not ours, another
        process trains there, a full disk.
        """
        with FolderWriter(self.path, KIND, VERSION, overwrite=True) as writer:
            for number, array in enumerate(arrays.values()):
                writer.array(f"array-{number}", array.reshape(-1))
            names = [[name, list(array.shape)] for name, array in arrays.items()]
            writer.commit({"identity": self.identity}, {"arrays": names, "state": asdict(state)})

    def load(self, arrays: Mapping[str, Float32]) -> State:
        """Fill the arrays with what they held; returns where the training was.

        Raises
        ------
        SettingsError
            It is the checkpoint of another training: which setting differs.
        FormatError
            There is none, or it is damaged: which file.
        """
        folder = Folder.open(self.path, KIND, {VERSION})
        wrong = folder.damaged()
        if wrong:
            raise FormatError(
                f"{self.path / wrong[0]}: damaged: its checksum is wrong; the training cannot be "
                "resumed, begin it anew"
            )
        try:
            then, names = folder.settings["identity"], folder.statistics["arrays"]
            state = State(**folder.statistics["state"])
        except (KeyError, TypeError) as error:
            raise FormatError(f"{self.path}: damaged: its entries make no sense") from error
        for name in {**self.identity, **then}:  # settings come before what the corpus is
            was, now = then.get(name), self.identity.get(name)
            if was != now:
                raise SettingsError(f"{self.path}: cannot resume: {_differs(name, was, now)}")
        if [[name, list(array.shape)] for name, array in arrays.items()] != names:
            raise FormatError(f"{self.path}: does not fit these settings: {names}")
        for number, array in enumerate(arrays.values()):
            np.copyto(array, folder.array(f"array-{number}").reshape(array.shape))
        return state


def _differs(name: str, was: Any, now: Any) -> str:
    if name in DATA:
        return f"{DATA[name]} not what they were in that training"
    return f"{name} was {was!r} in that training, now {now!r}"
