"""A language model advanced by one unit at a time, and the text of what it draws."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fastseq.models.data.vocabulary import Vocabulary
from fastseq.models.language_network import LanguageNetwork, parts_of, state_of
from fastseq.types import Float32, Int32, Int64


class LanguageStepper:
    """A `generation.Stepper` of a language model's network.

    network : its weights must stay as they are while the stepper is used
    never : the id of a unit that is never to be drawn (`<unk>`); None for no such
    """

    def __init__(self, network: LanguageNetwork, never: int | None = None) -> None:
        self._network = network
        self._never = never
        with network.lock:
            network.output.prepare(backward=False)

    def start(self, rows: int) -> Any:
        """The state before anything is read: None stands for zeros."""
        return None

    def step(self, tokens: Int32, state: Any) -> tuple[Float32, Any]:
        """Logits float32[rows, V] behind tokens int32[rows], and the new state."""
        network = self._network
        shape = len(tokens), network.output.outputs
        with network.lock:  # another thread may be packing the output's weight anew
            y, state = network.hidden(tokens.reshape(1, -1), state)
            out = network.backend.empty("logits", *shape)
            network.output.project(out, y)
            logits = network.backend.get(out)
        if self._never is not None:
            logits[:, self._never] = -np.inf
        return logits, state

    def select(self, state: Any, rows: Int64) -> Any:
        """The rows of a state, taken out and put together anew."""
        if state is None:
            return None
        with self._network.lock:
            backend = self._network.backend
            backend.begin()
            return state_of(tuple(backend.batch_rows(part, rows) for part in parts_of(state)))


def pieces(vocabulary: Vocabulary, ids: Iterable[int], before: int | None = None) -> Iterator[str]:
    """The text of ids that come one by one, each piece as soon as it is certain.

    Words stand behind a space, unless they begin a row; `<eos>` becomes a line break. Of bytes
    only whole characters are given out: those that make none, or none yet at the end, are left
    out.

    before : the id of the unit before the first; None where the text begins with it
    """
    if vocabulary.units.unit == "byte":
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        for number in ids:
            text = decoder.decode(bytes([number]))
            if text:
                yield text
        return
    joiner = vocabulary.units.joiner
    for number in ids:
        if vocabulary.end is not None and number == vocabulary.end:
            yield "\n"
        else:
            first = before is None or before == vocabulary.end
            yield ("" if first else joiner) + vocabulary.decode([number])
        before = number
