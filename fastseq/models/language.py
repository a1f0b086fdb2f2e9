"""LanguageModel: the probability of the next unit of a text.

model = LanguageModel(unit="char", hidden=256, layers=2, dropout=0.15)
model.fit("plays.parquet", valid="other_plays.parquet")
for piece in model.generate("ROMEO:", 500, temperature=0.8):
    print(piece, end="", flush=True)

The network predicts the next unit of a stream from all units before it: embedding, dropout,
recurrent layers, dropout, a softmax over the vocabulary. Gradients flow through the steps of a
window; the state is carried from window to window (truncated backpropagation through time, Mikolov
et al. 2010, "Recurrent neural network based language model").
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, SupportsFloat

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.estimator import Flag, Whole, parameter
from fastseq.models.base import training_parameter
from fastseq.models.data.batches import StreamBatches, StreamWindow
from fastseq.models.data.examples import learn_stream, read_stream
from fastseq.models.data.vocabulary import UNKNOWN, Vocabulary
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.generation import beam_search, check_settings, sample
from fastseq.models.sequence import (
    FittedState,
    Network,
    NetworkTask,
    TextModel,
    restored_vocabulary,
    step_norms,
    vocabulary_file,
)
from fastseq.nn.backend import Backend
from fastseq.nn.layers import Embedding
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.settings import parse_size, seed_number
from fastseq.training.checkpoint import Arrays, fingerprint_of
from fastseq.training.gradient import StepResult
from fastseq.types import Float32, Float64, Int32, Int64, Texts

BPTT = {"word": 35, "space": 35, "char": 100, "byte": 100}  # default steps
STATES = ("h", "c")  # names of the arrays of a state, in order

_AT_ONCE = 512  # units whose probabilities are computed at a time

_STREAMS = 32  # maximum number of streams of a text to measure
_SHORTEST = 1024  # minimum targets of each
_WARM_UP = 128  # units that each reads before its part begins
_STEPS = 64  # of a window while measuring


class LanguageNetwork(Network):
    """The layers, and passes over windows of them.

    cell     name of the recurrent layer's parameters ("lstm")
    dropout  rate before and after the recurrent layers, while training
    tied     the output's weight is the embedding's table (Press and Wolf 2017); raises
             SettingsError if their sizes differ
    seed     of the output's initial weights
    """

    def __init__(
        self,
        embedding: Embedding,
        recurrent: Recurrent,
        cell: str,
        dropout: float,
        tied: bool,
        seed: int,
        backend: Backend,
    ) -> None:
        size, hidden = recurrent.input_size, recurrent.output_size
        if tied and size != hidden:
            raise SettingsError(
                f"tied weights need embedding and hidden of one size, not {size} and {hidden}"
            )
        self.embedding = embedding
        self.recurrent = recurrent
        table = embedding if tied else None
        self.output = backend.dense(hidden, embedding.words, weight_of=table, seed=seed)
        self.dropout_before = backend.dropout(dropout)
        self.dropout_after = backend.dropout(dropout)
        self.head = backend.projected_cross_entropy()
        super().__init__({"embedding": embedding, cell: recurrent, "output": self.output}, backend)

    @property
    def _shared(self) -> bool:
        """Whether repeated units share an embedding row in training (not under per-step
        dropout)."""
        return not self.dropout_before.rate

    def prepare(self, inputs: Int32, training: bool) -> None:
        """Send to the device what a pass over inputs int32[T, B] needs."""
        self.backend.begin()
        index = self.embedding.prepare(inputs.reshape(-1), self._shared or not training)
        steps, batch = inputs.shape
        self.recurrent.prepare_steps(
            steps, batch, None if index is None else index.reshape(inputs.shape)
        )

    def learn(
        self, inputs: Int32, targets: Int32, state: Any, key: int
    ) -> tuple[SupportsFloat, Any]:
        """(mean loss, last state) of int32[T, B] from a state; adds to the gradients. No gradient
        flows into the state."""
        loss, state, dx = self._pass(inputs, targets, state, key, self._shared)
        if not self.embedding.frozen:
            below = dx if self._shared else self.dropout_before.backward(dx, out=dx)
            self.embedding.backward(below)
        return loss, state

    def input_gradient(self, inputs: Int32, targets: Int32) -> Float32:
        """float32[T, B, E]: the gradient of the mean loss with respect to the recurrent layers'
        input. Adds to gradients of parameters too. Targets below 0 do not count."""
        self.backend.begin()
        dx = self._pass(inputs, targets, None, 0, shared=False)[2]
        return self.backend.get(dx).reshape(*inputs.shape, -1)

    def _pass(
        self, inputs: Int32, targets: Int32, state: Any, key: int, shared: bool
    ) -> tuple[SupportsFloat, Any, Any]:
        """(mean loss, last state, gradient of the recurrent layers' input: [T * B, E], or with
        `shared` [U, E] for the U distinct units)."""
        index = None
        if shared:
            x, index = self.embedding.forward_distinct(inputs.reshape(-1))
            index = index.reshape(inputs.shape)
        else:
            x = self.embedding.forward(inputs.reshape(-1))
            x = self.dropout_before.forward(x, key=mixed_key(key, 0), out=x)
            x = x.reshape(*inputs.shape, self.embedding.size)
        y, state = self.recurrent.forward(x, state=state, key=mixed_key(key, 1), index=index)
        y = y.reshape(inputs.size, self.recurrent.output_size)
        y = self.dropout_after.forward(y, key=mixed_key(key, 2), out=y)
        loss = self.head.loss(y, self.output, targets.reshape(-1))
        dy = self.head.backward()
        dy = self.dropout_after.backward(dy, out=dy)
        dx = self.recurrent.backward(dy.reshape(*inputs.shape, self.recurrent.output_size))
        return loss, state, dx.reshape(-1, self.embedding.size)

    def hidden(self, inputs: Int32, state: Any) -> tuple[Any, Any]:
        """[T·B, H] of inputs int32[T, B] in prediction, and the last state."""
        with self.lock, self.backend.memory("predict on the CPU (device cpu)"):
            self.backend.begin()
            x, index = self.embedding.forward_distinct(inputs.reshape(-1), training=False)
            y, state = self.recurrent.forward(
                x, state=state, training=False, index=index.reshape(inputs.shape)
            )
        return y.reshape(inputs.size, self.recurrent.output_size), state

    @contextmanager
    def weights_held(self) -> Iterator[None]:
        """A block of steps by single units: see Recurrent.weights_held. Blocks may overlap."""
        block = self.recurrent.weights_held()
        with self.lock:
            block.__enter__()
        try:
            yield
        finally:
            with self.lock:
                block.__exit__(None, None, None)

    def loss_sum(self, inputs: Int32, targets: Int32, state: Any) -> tuple[float, Any]:
        """(sum of -log p over the targets that are not negative, last state)."""
        wanted = targets.reshape(-1)
        with self.lock:
            y, state = self.hidden(inputs, state)
            mean = float(self.head.loss(y, self.output, wanted, training=False))
        return mean * int(np.count_nonzero(wanted >= 0)), state


@dataclass(frozen=True, slots=True, eq=False)
class StreamMeasure:
    """The mean of -log p over a stream, every unit but the first a target once.

    A long stream is read as several in parallel, at most 32 of at least 1,024 targets; each begins
    128 units before its part, so that its first targets have some context. The cuts depend on the
    length alone. Raises DataError, with the file `where`, for fewer than two units.
    """

    values: Int32
    where: str = "the stream"

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise DataError(f"{self.where}: a single unit, expected at least two to predict one")

    def __call__(self, network: LanguageNetwork) -> float:
        """The mean, in nats."""
        total, state = 0.0, None
        for inputs, targets in self.windows():
            loss, state = network.loss_sum(inputs, targets, state)
            total += loss
        return total / (len(self.values) - 1)

    def windows(self) -> Iterator[tuple[Int32, Int32]]:
        """Inputs and targets int32[T, B], window after window; a target that does not count is
        -1."""
        count = len(self.values) - 1
        streams = max(1, min(_STREAMS, count // _SHORTEST))
        own = -(-count // streams)  # targets of a stream, of the last one fewer
        warm = _WARM_UP if streams > 1 else 0
        first: Int64 = np.arange(streams) * own
        start = first - warm
        start[0] = 0  # nothing precedes it: it starts without a warm-up
        for step in range(0, warm + own, _STEPS):
            place = start + np.arange(step, min(step + _STEPS, warm + own))[:, None]
            counted = (place >= first) & (place < np.minimum(first + own, count))
            place = np.minimum(place, count - 1)
            targets = np.where(counted, self.values[place + 1], np.int32(-1))
            yield self.values[place], targets


@dataclass(slots=True, eq=False)
class LanguageState(FittedState):
    """The fitted state; `knows_unknown`: whether `<unk>` occurred in training."""

    network: LanguageNetwork
    vocabulary: Vocabulary
    knows_unknown: bool


@dataclass(eq=False)
class LanguageTask(NetworkTask[LanguageState]):
    """The training of a language model, its state carried from window to window.

    windows  of the training stream, the same ones in every epoch
    measure  of held-out text; None without held-out text
    """

    windows: StreamBatches
    measure: StreamMeasure | None
    _state: Any = field(default=None, init=False)

    def steps_per_epoch(self, epoch: int) -> int:
        return len(self.windows)

    def _batches(self, epoch: int) -> Iterator[StreamWindow]:
        return iter(self.windows)

    def _prepared(self, batch: StreamWindow) -> StreamWindow:
        self.learned.network.prepare(batch.inputs, True)
        return batch

    def _learn(self, prepared: StreamWindow, key: int) -> StepResult:
        inputs, targets, step = prepared
        state = None if step == 0 else self._state
        loss, self._state = self.learned.network.learn(inputs, targets, state, key)
        return StepResult(loss, targets.size, targets.size)

    def _validate(self) -> dict[str, float] | None:
        if self.measure is None:
            return None
        loss = self.measure(self.learned.network)
        return {"loss": loss, "perplexity": perplexity(loss)}

    def fingerprint(self) -> dict[str, Any]:
        held_out = None if self.measure is None else self.measure.values
        stream = self.windows.values
        return {"units": len(stream), "checksums": fingerprint_of(stream, held_out)}

    def flow(self) -> Float64:
        """Of the loss of the last step alone, whose gradient reaches earlier steps through the
        recurrence alone."""
        window = next(iter(self.windows))
        targets = window.targets.copy()
        targets[:-1] = -1
        network = self.learned.network
        dx = network.input_gradient(window.inputs, targets)
        network.parameters.zero_gradients()
        return step_norms(dx)

    def carried(self) -> Arrays:
        if self._state is None:
            return {}
        get = self.learned.network.backend.get
        return dict(zip(STATES, map(get, parts_of(self._state)), strict=False))

    def restore_carried(self, carried: Arrays) -> None:
        parts = tuple(carried[name] for name in STATES if name in carried)
        self._state = state_of(parts) if parts else None


def parts_of(state: Any) -> tuple[Any, ...]:
    """The arrays of a recurrent layer's state, which is a tuple or a single array."""
    return state if isinstance(state, tuple) else (state,)


def state_of(parts: tuple[Any, ...]) -> Any:
    """The state of these arrays."""
    return parts if len(parts) > 1 else parts[0]


def perplexity(nats: float) -> float:
    """e to the mean loss; infinite if that overflows."""
    return math.exp(nats) if nats < 700 else math.inf


class LanguageDecoder:
    """A `generation.Decoder` of a network whose weights do not change. The id `never` (`<unk>`) is
    never generated."""

    def __init__(self, network: LanguageNetwork, never: int | None = None) -> None:
        self._network = network
        self._never = never
        with network.lock:
            network.output.prepare(backward=False)

    def start(self, rows: int) -> Any:
        """The initial state: None for zeros."""
        return None

    def step(self, tokens: Int32, state: Any) -> tuple[Float32, Any]:
        """Logits float32[rows, V] after tokens int32[rows], and the new state."""
        network = self._network
        shape = len(tokens), network.output.outputs
        with network.lock:  # another thread may repack the output's weight
            y, state = network.hidden(tokens.reshape(1, -1), state)
            out = network.backend.empty("logits", *shape)
            network.output.project(out, y)
            logits = network.backend.get(out)
        if self._never is not None:
            logits[:, self._never] = -np.inf
        return logits, state

    def select(self, state: Any, rows: Int64) -> Any:
        """The selected rows of a state."""
        if state is None:
            return None
        with self._network.lock:
            backend = self._network.backend
            backend.begin()
            return state_of(tuple(backend.batch_rows(part, rows) for part in parts_of(state)))


def decoded(vocabulary: Vocabulary, ids: Iterable[int], before: int | None = None) -> Iterator[str]:
    """The text of a stream of ids, each piece as soon as it is complete.

    Words are preceded by a space, unless they begin a row; `<eos>` becomes a line break. Bytes are
    decoded as whole characters; those that form none are left out.

    before : the id of the unit before the first; None at the beginning of the text
    """
    if vocabulary.tokenizer.unit == "byte":
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        for number in ids:
            text = decoder.decode(bytes([number]))
            if text:
                yield text
        return
    joiner = vocabulary.tokenizer.joiner
    for number in ids:
        if vocabulary.end is not None and number == vocabulary.end:
            yield "\n"
        else:
            first = before is None or before == vocabulary.end
            yield ("" if first else joiner) + vocabulary.decode([number])
        before = number


class LanguageModel(TextModel[LanguageState]):
    """Language model: the probability of every unit of a text, given all units before it.

    The rows are read as one stream, cut into `batch_size` parallel streams, of which `bptt` steps
    are learned at a time; the state is carried on. Rows of words end with `<eos>`.

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
    bptt: int | None = training_parameter(
        default=None, check=Whole(1), none=f"{BPTT['word']}, or {BPTT['char']} for char and byte",
        help="Steps of truncated backpropagation through time.",
    )  # fmt: skip
    schedule: str = "cosine"
    warmup: int = 50
    clip: float | None = 1.0

    @property
    def vocabulary_(self) -> Vocabulary:
        """The units and their ids."""
        return self.learned.vocabulary

    # ---- evaluation

    def evaluate(
        self, examples: Any, *, text_column: str | Sequence[str] | None = None
    ) -> dict[str, float]:
        """{"nats" per unit, "perplexity", "units" measured, "unknown_rate"}, and for characters and
        bytes "bits_per_character" or "bits_per_byte".

        The rows are read as one stream whose first unit is given (see StreamMeasure). Units that
        are unknown are predicted as `<unk>`, which may be easy: compare perplexities at a similar
        unknown rate, their fraction of all units but `<eos>`.

        Raises DataError for data that cannot be read, or with fewer than two units.
        """
        learned = self.learned
        columns = self._named_columns(text_column=text_column)
        reader = self._open(examples, None, columns, fields=learned.fields)
        values, report = read_stream(reader, learned.vocabulary, parse_size(self.memory))
        learned.reports["data"] = report
        nats = StreamMeasure(values, reader.sources[0].name)(learned.network)
        found = {"nats": nats, "perplexity": perplexity(nats), "units": len(values) - 1}
        unit = learned.vocabulary.tokenizer.unit
        bits = {"char": "bits_per_character", "byte": "bits_per_byte"}.get(unit)
        if bits is not None:
            found[bits] = nats / math.log(2)
        return {**found, "unknown_rate": report.unknown_rate}

    def score(self, examples: Any, y: Any = None) -> float:
        """The negative of the nats per unit: larger is better. Raises as `evaluate`."""
        return -self.evaluate(examples)["nats"]

    def log_probability(self, text: str, given: str = "") -> float:
        """log p(text | given), natural: the sum over the units of `text`, without its end.

        If nothing is given, words begin a row, and characters and bytes follow a line break, as in
        `generate`. An empty text has probability 1.

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

    # ---- generation

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
        """The continuation of a prompt, without it: piece by piece as it is drawn, all at once from
        beam search. The pieces concatenate to plain text: words after a space, `<eos>` as a line
        break, of bytes whole characters only.

        Parameters
        ----------
        prompt : words begin a row with it. If it is empty, words begin a row, and characters and
            bytes follow a line break, or the most frequent character if training had no line break
        length : units to draw
        temperature, top_k, top_p, greedy : see generation.sample
        beams : width of beam search, which draws nothing; see generation.beam_search
        length_penalty : of beam search
        seed : random seed
        end_with_row : stop at the first `<eos>`, which only words have

        `<unk>` is never drawn. A unit of the prompt that is not in the vocabulary is read as
        `<unk>` if training had such units (`min_count`, `max_vocabulary`).

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
            unit = vocabulary.tokenizer.unit
            raise SettingsError(f"end_with_row needs rows that end: a model of {unit}s has none")
        ids = self._prompt(prompt, "the prompt")
        decoder = LanguageDecoder(self.learned.network, vocabulary.unknown)
        stop = vocabulary.end if end_with_row else None
        before = int(ids[-1]) if prompt else None
        held = self.learned.network.weights_held
        if beams is not None:
            with held():
                found = beam_search(decoder, ids, length, beams, stop, length_penalty)
            return iter(["".join(decoded(vocabulary, found[0].ids, before))])
        rng = np.random.default_rng(seed)
        drawn = sample(
            decoder, ids, length, temperature=temperature, top_k=top_k, top_p=top_p, greedy=greedy,
            rng=rng, stop=stop,
        )  # fmt: skip

        def streamed() -> Iterator[str]:
            with held():
                yield from decoded(vocabulary, drawn, before)

        return streamed()

    def _prompt(self, text: str, what: str) -> Int32:
        """The ids that are read before anything is predicted, at least one."""
        vocabulary, ids = self.learned.vocabulary, self._ids(text, what)
        if vocabulary.end is not None:
            return np.concatenate([np.array([vocabulary.end], np.int32), ids])
        if len(ids):
            return ids
        line_break = vocabulary.encode(Texts.from_strings(["\n"])).values
        # ids are in the order of frequency, the first after <unk>
        return line_break if line_break[0] != vocabulary.unknown else np.array([1], np.int32)

    def _ids(self, text: str, what: str) -> Int32:
        """The ids of a text's units. Raises DataError for a unit that was not learned."""
        learned = self.learned
        vocabulary = learned.vocabulary
        if not isinstance(text, str):
            raise DataError(f"{what} is a {type(text).__name__}, expected a string")
        ids = vocabulary.encode(Texts.from_strings([text])).values
        if vocabulary.unknown is None or learned.knows_unknown:
            return ids
        unknown = np.flatnonzero(ids == vocabulary.unknown)
        if len(unknown):
            unit = vocabulary.tokenizer.tokenize(text)[int(unknown[0])]
            raise DataError(
                f"{what} holds {unit!r}, which training did not have: expected units of the "
                f"vocabulary, or a model trained with some unknown ({UNKNOWN}: min_count, "
                "max_vocabulary)"
            )
        return ids

    # ---- construction

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
            raise SettingsError("a language model has no targets besides its text: expected no y")
        memory = parse_size(self.memory)
        reader = self._open(examples, None, columns)
        vocabulary, stream, report = learn_stream(
            reader, self._units(), min_count=self.min_count, max_size=self.max_vocabulary,
            memory=memory,
        )  # fmt: skip
        reports, measure = {"training": report}, None
        if valid is not None:
            held_out = self._open_valid(valid, columns, reader)
            values, reports["validation"] = read_stream(held_out, vocabulary, memory)
            measure = StreamMeasure(values, held_out.sources[0].name)
        windows = StreamBatches(stream, self.batch_size, self.bptt or BPTT[self.unit])

        def build(size: int) -> LanguageState:
            network = self._network(vocabulary, size, backend)
            return LanguageState(network, reader.fields, vocabulary, report.unknown > 0)

        learned = self._initialised(vocabulary, stream, backend, build)
        learned.reports.update(reports)
        return LanguageTask(learned, windows, measure)

    def _network(self, vocabulary: Vocabulary, size: int, backend: Backend) -> LanguageNetwork:
        embedding = self._embedding(vocabulary, size, backend)
        layer, seed = self._recurrent(size, False, backend), mixed_key(self.seed, 2)
        return LanguageNetwork(
            embedding, layer, self.cell, self.dropout, self.tie_weights, seed, backend
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
        fields, knows = Fields.from_dict(saved["fields"]), bool(saved["knows_unknown"])
        return LanguageState(network, fields, vocabulary, knows)
