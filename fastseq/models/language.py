"""LanguageModel: what comes next in a text.

model = LanguageModel(unit="char", hidden=256, layers=2, dropout=0.15)
model.fit("plays.parquet", valid="other_plays.parquet")
for piece in model.generate("ROMEO:", 500, temperature=0.8):
    print(piece, end="", flush=True)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.estimator import Flag, Whole, parameter
from fastseq.models.base import TextModel, recurrent, restored_vocabulary, vocabulary_file
from fastseq.models.data.batches import StreamBatches
from fastseq.models.data.examples import learn_stream, read_stream
from fastseq.models.data.vocabulary import UNKNOWN, Vocabulary
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.generation import beam_search, check_settings, sample
from fastseq.models.language_network import (
    LanguageNetwork,
    LanguageState,
    LanguageTask,
    StreamMeasure,
    perplexity,
)
from fastseq.models.stepper import LanguageStepper, pieces
from fastseq.nn.backend import Backend
from fastseq.seeds import mixed_key
from fastseq.settings import parse_size, seed_number
from fastseq.types import Int32, Texts

BPTT = {"word": 35, "space": 35, "char": 100, "byte": 100}  # steps, unless said

_AT_ONCE = 512  # units whose probabilities are made at a time


class LanguageModel(TextModel[LanguageState]):
    """Gives every unit of a text its probability, given all units before it.

    The rows are read as one stream, cut into `batch_size` streams that are learned from side by
    side, `bptt` steps at a time, the state carried on. Rows of words end with `<eos>`.

    Attributes
    ----------
    vocabulary_, history_, report_, gradient_flow_, n_parameters_
    """

    kind: ClassVar[str] = "language"
    inputs: ClassVar[str] = "text"
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text"}
    supervised: ClassVar[bool] = False
    measures: ClassVar[Mapping[str, bool]] = {"loss": False, "perplexity": False}
    learning_rates: ClassVar[Mapping[str, float]] = {"adam": 4e-3, "adamw": 4e-3, "sgd": 1.0}

    tie_weights: bool = parameter(
        default=False, check=Flag(), help="Use one matrix as embedding and output weights.",
        notes="Both sizes must be the same.",
    )  # fmt: skip
    bptt: int | None = parameter(
        default=None, check=Whole(1), section="Training",
        none=f"{BPTT['word']}, or {BPTT['char']} for char and byte",
        help="Steps of truncated backpropagation through time.",
    )  # fmt: skip
    schedule: str = "cosine"
    warmup: int = 50
    clip: float | None = 1.0

    # ---- what was learned

    @property
    def vocabulary_(self) -> Vocabulary:
        """The units that are known."""
        return self.learned.vocabulary

    # ---- measuring

    def evaluate(
        self, examples: Any, *, text_column: str | Sequence[str] | None = None
    ) -> dict[str, float]:
        """{"nats" per unit, "perplexity", "units" measured, "unknown_rate"}, and for characters and
        bytes "bits_per_character" or "bits_per_byte".

        The rows are read as one stream whose first unit is given; a long one is cut as
        language_network.StreamMeasure says. Units that are not in the vocabulary are predicted as
        `<unk>`, which may be easy: compare perplexities at a similar unknown rate, the fraction of
        all units but `<eos>` that these are.

        Raises DataError for data that cannot be read, or with fewer than two units.
        """
        learned = self.learned
        columns = self._named_columns(text_column=text_column)
        reader = self._open(examples, None, columns, fields=learned.fields)
        values, report = read_stream(reader, learned.vocabulary, parse_size(self.memory))
        learned.reports["data"] = report
        nats = _measure(values, reader.sources[0].name)(learned.network)
        found = {"nats": nats, "perplexity": perplexity(nats), "units": len(values) - 1}
        unit = learned.vocabulary.units.unit
        bits = {"char": "bits_per_character", "byte": "bits_per_byte"}.get(unit)
        if bits is not None:
            found[bits] = nats / math.log(2)
        return {**found, "unknown_rate": report.unknown_rate}

    def score(self, examples: Any, y: Any = None) -> float:
        """Less the nats a unit: larger is better. Raises as `evaluate`."""
        return -self.evaluate(examples)["nats"]

    def log_probability(self, text: str, given: str = "") -> float:
        """log p(text | given), natural: the sum over the units of `text`, its end not included.

        Where nothing is given, words are those that begin a row, and characters and bytes stand
        behind a line break, as in `generate`. An empty text has probability 1.

        Raises DataError for a unit that the model has not learned, as `generate` does.
        """
        before, wanted = self._prompt(given, "the text given"), self._ids(text, "the text")
        values = np.concatenate([before, wanted])
        network, state, total = self.learned.network, None, 0.0
        targets = values[1:].copy()
        targets[: len(before) - 1] = -1
        for start in range(0, len(targets), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            inputs = np.ascontiguousarray(values[:-1][part])[:, None]
            loss, state = network.loss_sum(inputs, targets[part][:, None], state)
            total -= loss
        return total

    # ---- generating

    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        greedy: bool = False,
        beams: int | None = None,
        length_penalty: float = 0.0,
        seed: int = 0,
        end_with_row: bool = False,
    ) -> Iterator[str]:
        """The text that goes on from a prompt, without it: a piece as soon as it is drawn, all at
        once from beam search. Together they are text as it is to be written: words behind a
        space, `<eos>` a line break, of bytes whole characters only.

        Parameters
        ----------
        prompt : words begin a row with it. Where it is empty, words begin a row, and characters
            and bytes go on from a line break, or from the most frequent character where training
            had no line break
        length : units to draw
        temperature, top_k, top_p, greedy : as generation.sample has them
        beams : width of beam search, which draws nothing: as generation.beam_search has it
        length_penalty : of beam search
        seed : of what is drawn
        end_with_row : stop at the first `<eos>`, which only words have

        `<unk>` is never drawn. A unit of the prompt that is not in the vocabulary is read as
        `<unk>` where training had such units (`min_count`, `max_vocabulary`).

        Raises
        ------
        DataError
            The prompt has a unit that the model has not learned: which.
        SettingsError
            A setting is out of range, or two exclude each other; before anything is drawn.
        """
        check_settings(length, temperature, top_k, top_p, greedy, beams, length_penalty)
        seed_number(seed)
        vocabulary = self.learned.vocabulary
        if end_with_row and vocabulary.end is None:
            raise SettingsError(
                f"end_with_row needs rows that end: a model of {vocabulary.units.unit}s has none"
            )
        ids = self._prompt(prompt, "the prompt")
        stepper = LanguageStepper(self.learned.network, vocabulary.unknown)
        stop = vocabulary.end if end_with_row else None
        drawn: Iterator[int]
        held = self.learned.network.weights_held
        if beams is not None:
            with held():
                found = beam_search(stepper, ids, length, beams, stop, length_penalty)
            drawn = iter(found[0].ids)
            return iter(["".join(pieces(vocabulary, drawn, int(ids[-1]) if prompt else None))])
        drawn = sample(
            stepper,
            ids,
            length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            greedy=greedy,
            rng=np.random.default_rng(seed),
            stop=stop,
        )
        written = pieces(vocabulary, drawn, int(ids[-1]) if prompt else None)

        def streamed() -> Iterator[str]:
            with held():
                yield from written

        return streamed()

    def _prompt(self, text: str, what: str) -> Int32:
        """The ids that are read before anything is predicted, at least one."""
        vocabulary, ids = self.learned.vocabulary, self._ids(text, what)
        if vocabulary.end is not None:
            return np.concatenate([np.array([vocabulary.end], np.int32), ids])
        if len(ids):
            return ids
        line_break = vocabulary.encode(Texts.from_strings(["\n"])).values
        # ids are in the order of frequency, the first behind <unk>
        return line_break if line_break[0] != vocabulary.unknown else np.array([1], np.int32)

    def _ids(self, text: str, what: str) -> Int32:
        """The ids of a text's units. Raises DataError for one that was not learned."""
        learned = self.learned
        vocabulary = learned.vocabulary
        if not isinstance(text, str):
            raise DataError(f"{what} is a {type(text).__name__}, expected a string")
        ids = vocabulary.encode(Texts.from_strings([text])).values
        if vocabulary.unknown is None or learned.knows_unknown:
            return ids
        unknown = np.flatnonzero(ids == vocabulary.unknown)
        if len(unknown):
            unit = vocabulary.units.pieces(text)[int(unknown[0])]
            raise DataError(
                f"{what} holds {unit!r}, which training did not have: expected units of the "
                f"vocabulary, or a model trained with some unknown ({UNKNOWN}: min_count, "
                "max_vocabulary)"
            )
        return ids

    # ---- making

    def _check(self) -> None:
        super()._check()
        if self.tie_weights and self.embedding not in (None, self.hidden):
            raise SettingsError(
                f"tie_weights needs embedding and hidden of one size, not {self.embedding} and "
                f"{self.hidden}"
            )

    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> LanguageTask:
        if y is not None:
            raise SettingsError("a language model has no targets beside its text: expected no y")
        memory = parse_size(self.memory)
        reader = self._open(examples, None, columns)
        vocabulary, stream, report = learn_stream(
            reader,
            self._units(),
            min_count=self.min_count,
            max_size=self.max_vocabulary,
            memory=memory,
        )
        reports, measure = {"training": report}, None
        if valid is not None:
            held_out = self._open_valid(valid, columns, reader)
            values, reports["validation"] = read_stream(held_out, vocabulary, memory)
            measure = _measure(values, held_out.sources[0].name)
        windows = StreamBatches(stream, self.batch_size, self.bptt or BPTT[self.unit])
        vectors = self._vectors(vocabulary, backend.team)
        size = self.embedding if vectors is None else int(vectors[1].shape[1])
        assert size is not None  # checked
        network = self._network(vocabulary, size, backend)
        learned = LanguageState(network, reader.fields, vocabulary, report.unknown > 0)
        if vectors is not None:
            self._place(network.embedding, vectors)
            learned.coverage = vocabulary.coverage(vectors[0], stream)
        learned.reports.update(reports)
        return LanguageTask(learned, windows, measure)

    def _network(self, vocabulary: Vocabulary, size: int, backend: Backend) -> LanguageNetwork:
        return LanguageNetwork(
            self._embedding(vocabulary, size, backend),
            recurrent(self, size, False, backend),
            self.cell,
            self.dropout,
            self.tie_weights,
            mixed_key(self.seed, 2),
            backend,
        )

    def _statistics(self, learned: LanguageState) -> dict[str, Any]:
        return {
            "vocabulary": learned.vocabulary.to_dict(),
            "embedding": learned.network.embedding.size,
            "knows_unknown": learned.knows_unknown,
        }

    def _files(self, learned: LanguageState) -> dict[str, Content]:
        return vocabulary_file(learned.vocabulary)

    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> LanguageState:
        from fastseq.store.columns import Fields

        saved = folder.statistics
        vocabulary = restored_vocabulary(folder, saved["vocabulary"])
        network = self._network(vocabulary, saved["embedding"], backend)
        fields = Fields.from_dict(saved["fields"])
        knows = bool(saved["knows_unknown"])
        return LanguageState(network, fields, vocabulary, knows)


def _measure(values: Int32, where: str) -> StreamMeasure:
    if len(values) < 2:
        raise DataError(f"{where}: a single unit, expected at least two to predict one")
    return StreamMeasure(values)
