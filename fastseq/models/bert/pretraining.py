"""BertPretrainer: BERT trained from nothing, or from a checkpoint, on texts alone.

model = BertPretrainer(layers=2, hidden=128, heads=2, vocabulary_size=8000)
model.fit("corpus.parquet", valid="held_out.parquet", path="model")
model.export("checkpoint")

Masked words and next sentences as Devlin et al. 2019, section 3.1; see segments.py for the data.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastseq.errors import DataError, DeviceError, FormatError, SettingsError, located, quoted, warn
from fastseq.estimator import FRACTION, Choice, Flag, Location, Real, Whole, parameter
from fastseq.models.base import training_parameter
from fastseq.models.bert.checkpoint import Checkpoint, check_tokenizer, read_checkpoint
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.network import without_decay
from fastseq.models.bert.pretraining_network import Losses, PretrainingNetwork
from fastseq.models.bert.segments import SPECIAL, MaskedBatch, Masking, Pairs, PieceCorpus
from fastseq.models.bert.split_steps import SplitTask
from fastseq.models.bert.tokenizer_state import (
    restored_tokenizer,
    tokenizer_file,
    tokenizer_statistics,
)
from fastseq.models.bert.writing import PRETRAINING, write_checkpoint
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.sequence import FittedState, NetworkModel
from fastseq.nn.backend import Backend
from fastseq.nn.layer import Parameters
from fastseq.nn.layers import GELU_FORMS
from fastseq.seeds import mixed_key
from fastseq.settings import parse_size, thread_count
from fastseq.text.tokenizer_files import read_tokenizer
from fastseq.text.wordpiece import WordPiece
from fastseq.text.wordpiece_learning import learn_wordpiece
from fastseq.threads import Team
from fastseq.training.checkpoint import fingerprint_of
from fastseq.training.gradient import StepResult, TrainingSettings
from fastseq.types import Float64, Int64

if TYPE_CHECKING:
    from fastseq.store.rows import RowReader

RECIPES = ("adamw", "google")

# sizes where there is no base
_SIZES = {"layers": 2, "hidden": 128, "heads": 2, "positions": 512}
_ACTIVATION = "gelu"
_LEAST = SPECIAL + 2  # tokens of a sequence
_HELD_OUT = 1 << 40  # in the place of the epoch, in the keys of held-out data
_COUNTS = "counts"  # file of the model
_AT_ONCE = 1 << 14  # held-out tokens measured at a time


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """How sequences are made of a corpus.

    length   tokens of a sequence at most
    short    probability that a document's sequences aim at fewer
    masking  of their tokens
    """

    length: int
    short: float
    masking: Masking

    def held_out(self, corpus: PieceCorpus, team: Team) -> Iterator[MaskedBatch]:
        """The sequences of a held-out corpus, the same ones with the same masks each time."""
        key = mixed_key(0, _HELD_OUT)
        pairs = Pairs.draw(corpus, self.length, self.short, key, team)
        ends = np.cumsum(pairs.tokens)
        cuts = np.searchsorted(ends, np.arange(_AT_ONCE, ends[-1], _AT_ONCE))
        for part in np.split(np.arange(len(pairs)), np.unique(cuts)):
            if len(part):
                yield pairs.batch(part, self.masking, mixed_key(0, _HELD_OUT, 1))


@dataclass(slots=True, eq=False)
class PretrainingState(FittedState):
    """The fitted state; counts int64[V]: occurrences of each piece in the corpus."""

    network: PretrainingNetwork
    config: BertConfig
    tokenizer: WordPiece
    reading: Reading
    counts: Int64


@dataclass(eq=False)
class PretrainingTask(SplitTask[PretrainingState]):
    """Pretraining. An epoch draws new pairs and masks of the corpus; it has as many steps as the
    first, so that the number of all steps is known."""

    train: PieceCorpus
    valid: PieceCorpus | None
    batch_size: int
    batch_tokens: int | None
    seed: int
    _steps: int = field(default=0, init=False)
    _drawn: tuple[int, Pairs] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.learned.reports["training"] = self.train.report
        if self.valid is not None:
            self.learned.reports["validation"] = self.valid.report
        pairs = self._pairs(0)
        size, most = len(pairs), self.batch_size
        if self.batch_tokens is not None:
            size, most = int(pairs.tokens.sum()), self.batch_tokens
        self._steps = max(1, math.ceil(size / most))

    def steps_per_epoch(self, epoch: int) -> int:
        return self._steps

    def _pairs(self, epoch: int) -> Pairs:
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = None
            reading, team = self.learned.reading, self.learned.network.backend.team
            key = mixed_key(self.seed, epoch, 1)
            pairs = Pairs.draw(self.train, reading.length, reading.short, key, team)
            self._drawn = epoch, pairs
        return self._drawn[1]

    def _batches(self, epoch: int) -> Iterator[Int64]:
        by_tokens = self.batch_tokens is not None
        return self._pairs(epoch).batches(self._steps, by_tokens, [self.seed, epoch])

    def _prepared(self, batch: Int64) -> MaskedBatch:
        key = mixed_key(self.seed, self._epoch, 2)
        return self._pairs(self._epoch).batch(batch, self.learned.reading.masking, key)

    def _learn(self, prepared: MaskedBatch, key: int) -> StepResult:
        loss = self.learned.network.learn(prepared, key)
        return StepResult(loss, len(prepared), len(prepared.ids))

    def _learn_parts(self, parts: Sequence[Int64], keys: Sequence[int]) -> StepResult:
        batches = [self._prepared(numbers) for numbers in parts]
        words, pairs = sum(len(batch.words) for batch in batches), sum(map(len, batches))
        network = self.learned.network
        loss = sum(
            network.learn(batch, key, words, pairs)
            for batch, key in zip(batches, keys, strict=True)
        )
        return StepResult(loss, pairs, sum(len(batch.ids) for batch in batches))

    def _validate(self) -> dict[str, float] | None:
        return None if self.valid is None else measured(self.learned, self.valid)

    def fingerprint(self) -> dict[str, Any]:
        """Checksums of the data and, before training, of the weights to start from."""
        found: list[int] = []
        for corpus in (self.train, self.valid):
            if corpus is not None:
                found += fingerprint_of(corpus.values, corpus.segments, corpus.documents)
        base = fingerprint_of(self.parameters.values)
        return {"documents": len(self.train), "checksums": found, "base": base}

    def flow(self) -> Float64:
        raise SettingsError("gradient_flow is of recurrent layers: this network has none")


def measured(learned: PretrainingState, corpus: PieceCorpus) -> dict[str, float]:
    """The measures of BertPretrainer.evaluate."""
    network, counts = learned.network, learned.counts
    costs = -np.log((counts + 1) / (counts.sum() + len(counts)))  # each seen once more
    total, unigram = np.zeros(len(Losses._fields)), 0.0
    for batch in learned.reading.held_out(corpus, network.backend.team):
        total += network.measure(batch)
        unigram += float(costs[batch.words].sum())
    found = Losses(*total.tolist())
    words, pairs = max(found.words, 1), max(found.pairs, 1)
    masked, following = found.masked / words, found.next / pairs
    return {
        "loss": masked + following if network.has_next else masked,
        "masked_loss": masked,
        "accuracy": found.right_words / words,
        "next_loss": following,
        "next_accuracy": found.right_pairs / pairs,
        "unigram_loss": unigram / words,
    }


class BertPretrainer(NetworkModel[PretrainingState]):
    """BERT pretrained on texts: masked words are predicted, and whether a segment follows another.

    Each row of the corpus is a document, whose sentences end with . ! ? or a line break. New
    pairs of segments and new masks are drawn in every epoch. Where no document has two sentences,
    only masked words are learned, with a warning.

    Attributes
    ----------
    tokenizer_ : the WordPiece tokenizer
    history_, report_, n_parameters_
    """

    kind: ClassVar[str] = "bert pretrained"
    inputs: ClassVar[str] = "text"
    columns: ClassVar[Mapping[str, str]] = {"text_column": "text"}
    supervised: ClassVar[bool] = False
    measures: ClassVar[Mapping[str, bool]] = {
        "loss": False, "masked_loss": False, "accuracy": True, "next_loss": False,
        "next_accuracy": True,
    }  # fmt: skip
    learning_rates: ClassVar[Mapping[str, float]] = {"adam": 1e-3, "adamw": 1e-3}

    base: str | Path | None = parameter(
        default=None, check=Location(), none="random weights", metavar="CHECKPOINT",
        help="Folder of a checkpoint to continue from, in Hugging Face's format.",
    )  # fmt: skip
    tokenizer: str | Path | None = parameter(
        default=None, check=Location(), none="that of the base, or learned from the corpus",
        metavar="FILE", help="Tokenizer: a vocab.txt, or a folder in Hugging Face's format.",
    )  # fmt: skip
    vocabulary_size: int = parameter(
        default=8000, check=Whole(10, 1 << 24), help="Word pieces of a vocabulary that is learned."
    )
    lowercase: bool = parameter(
        default=True, check=Flag(), flag="lowercase/keep-case",
        help="Lower-case texts and remove accents, unless a folder has the tokenizer.",
    )  # fmt: skip
    layers: int | None = parameter(
        default=None, check=Whole(1), none="those of the base, or 2", help="Transformer layers."
    )
    hidden: int | None = parameter(
        default=None, check=Whole(1), none="that of the base, or 128",
        help="Size of the vector of a token.",
    )  # fmt: skip
    heads: int | None = parameter(
        default=None, check=Whole(1), none="those of the base, or 2", help="Attention heads."
    )
    intermediate: int | None = parameter(
        default=None, check=Whole(1), none="that of the base, or 4 times hidden",
        help="Hidden units of the feed-forward networks.",
    )  # fmt: skip
    positions: int | None = parameter(
        default=None, check=Whole(_LEAST), none="those of the base, or 512",
        help="Position embeddings: the longest text of the model.",
    )  # fmt: skip
    activation: str | None = parameter(
        default=None, check=Choice(GELU_FORMS), none="that of the base, or gelu",
        help="Activation of the feed-forward networks.",
    )  # fmt: skip
    max_length: int = parameter(
        default=128, check=Whole(_LEAST), help="Tokens of a sequence, with the special ones."
    )
    mask_ratio: float = parameter(
        default=0.15, check=Real(above=0), help="Share of the tokens that are predicted."
    )
    max_predictions: int | None = parameter(
        default=None, check=Whole(1), none="no limit but mask_ratio",
        help="Tokens of a sequence that are predicted at most.",
    )  # fmt: skip
    whole_words: bool = parameter(
        default=False, check=Flag(), help="Mask all pieces of a word or none."
    )
    short_ratio: float = parameter(
        default=0.1, check=FRACTION, help="Share of the documents with shorter sequences."
    )
    dropout: float | None = training_parameter(
        default=None, check=FRACTION, none="those of the base, or 0.1",
        help="Dropout rate of all layers and of attention.",
    )  # fmt: skip
    recipe: str = training_parameter(
        default="adamw", check=Choice(RECIPES),
        help="adamw, or google: without bias correction, with eps 1e-6 and a linear decrease over "
        "all steps, those of the warm-up among them.",
    )  # fmt: skip
    warmup_ratio: float = training_parameter(
        default=0.05, check=FRACTION, help="Warm-up of the learning rate, as a share of all steps.",
        notes="Not used where warmup is above 0.",
    )  # fmt: skip
    batch_tokens: int | None = training_parameter(
        default=None, check=Whole(1), none="batches of batch_size sequences",
        help="Tokens per mini-batch, in place of sequences.",
    )  # fmt: skip
    epochs: int = 3
    optimizer: str = "adamw"
    weight_decay: float = training_parameter(
        default=0.01, check=Real(least=0), help="Weight decay, not of biases and norms.",
    )  # fmt: skip
    schedule: str = "linear"
    clip: float | None = 1.0

    _untrained: tuple[str, ...] = ()  # weights that the data of the last `_task` cannot train

    @property
    def tokenizer_(self) -> WordPiece:
        """The tokenizer."""
        return self.learned.tokenizer

    def evaluate(
        self, examples: Any, *, text_column: str | Sequence[str] | None = None
    ) -> dict[str, float]:
        """{"loss": the sum of the losses that were trained, "masked_loss": nats of a masked word,
        "accuracy" of masked words, "next_loss", "next_accuracy", "unigram_loss": nats of a masked
        word by the frequencies of the training corpus, "unknown_rate"}. Pairs and masks are the
        same each time.

        Raises DataError for data that cannot be read, or without a word.
        """
        learned = self.learned
        columns = self._named_columns(text_column=text_column)
        reader = self._open(examples, None, columns, fields=learned.fields)
        corpus = self._read(reader, learned.tokenizer, learned.reading, learned.network.backend)
        learned.reports["data"] = corpus.report
        found = measured(learned, corpus)
        return {**found, "unknown_rate": corpus.report.unknown_rate}

    def score(self, examples: Any, y: Any = None) -> float:
        """The negative of the loss of masked words: larger is better. Raises as `evaluate`."""
        return -self.evaluate(examples)["masked_loss"]

    def export(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a checkpoint in Hugging Face's format, transformers' BertForPreTraining.

        overwrite : replace a checkpoint

        Raises SettingsError for a path that cannot be written or a folder that exists, FastseqError
        where the system refuses.
        """
        learned = self.learned
        write_checkpoint(
            path, PRETRAINING, learned.config, learned.network.parameters.views, learned.tokenizer,
            overwrite=overwrite,
        )  # fmt: skip

    # ---- construction

    def _check(self) -> None:
        super()._check()
        if self.mask_ratio >= 1:
            raise SettingsError(f"mask_ratio is {self.mask_ratio}, expected below 1")
        for name in ("tokenizer", *_SIZES, "intermediate", "activation"):
            if self.base is not None and getattr(self, name) is not None:
                raise SettingsError(f"the base sets {name}=…: expected only one of them")
        if self.recipe == "google" and self.optimizer != "adamw":
            raise SettingsError(f"the recipe google is of adamw, not of {self.optimizer}")
        if self.base is None:
            config = self._config(1 << 20)
            if config.hidden % config.heads:
                raise SettingsError(f"{config.heads} heads do not divide hidden, {config.hidden}")
            self._check_length(config)

    def _check_length(self, config: BertConfig) -> None:
        if self.max_length > config.positions:
            raise SettingsError(
                f"max_length is {self.max_length}, but the model has {config.positions} positions"
            )

    def _config(self, words: int) -> BertConfig:
        """The sizes of a new model."""
        given: dict[str, Any] = {
            name: default if getattr(self, name) is None else int(getattr(self, name))
            for name, default in _SIZES.items()
        }
        inner = self.intermediate or 4 * given["hidden"]
        activation = self.activation or _ACTIVATION
        return BertConfig(words=words, intermediate=inner, activation=activation, **given)

    def _backend(self) -> Backend:
        if self.device == "cuda":
            raise DeviceError("BERT has no layers for a GPU: expected the device auto or cpu")
        return Backend(Team(thread_count(self.threads)))

    def _frozen(self) -> tuple[str, ...]:
        return self._untrained

    def _training_settings(
        self, checkpoint_seconds: float, parameters: Parameters | None
    ) -> TrainingSettings:
        found = super()._training_settings(checkpoint_seconds, parameters)
        own, schedule = dict(found.optimiser_settings), self.schedule
        if self.recipe == "google":
            own = {"bias_correction": False, "eps": 1e-6, **own}
            schedule = "polynomial" if schedule == "linear" else schedule
        if parameters is not None and self.optimizer in ("adam", "adamw"):
            own["no_decay"] = without_decay(parameters)
        return dataclasses.replace(
            found, optimiser_settings=own, schedule=schedule,
            warmup_ratio=0.0 if self.warmup else float(self.warmup_ratio),
        )  # fmt: skip

    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> PretrainingTask:
        if y is not None:
            raise SettingsError("pretraining has no targets besides its text: expected no y")
        checkpoint = None if self.base is None else read_checkpoint(self.base)
        reader = self._open(examples, None, columns)
        tokenizer = self._tokenizer(reader)
        config = self._config(len(tokenizer)) if checkpoint is None else checkpoint.config
        if checkpoint is not None:
            self._check_base(checkpoint, tokenizer)
        reading = self._reading(tokenizer)
        train, held_out = self._read(reader, tokenizer, reading, backend), None
        if valid is not None:
            valid_reader = self._open_valid(valid, columns, reader)
            held_out = self._read(valid_reader, tokenizer, reading, backend)
        if not train.has_next:
            warn(
                f"{reader.sources[0].name}: no row has two sentences, so next sentences cannot be "
                "learned, and only masked words are: for both, rows must be documents"
            )
        network = PretrainingNetwork(config, self.dropout, backend, self.seed, train.has_next)
        if checkpoint is not None:
            network.load(checkpoint)
        self._untrained = network.untrained
        learned = PretrainingState(
            network, reader.fields, config, tokenizer, reading, train.counts()
        )
        return PretrainingTask(
            learned, train, held_out, self.batch_size, self.batch_tokens, self.seed
        )

    def _tokenizer(self, reader: RowReader) -> WordPiece:
        """The tokenizer that is given, or learned from the corpus. Raises DataError for a corpus
        to learn from that can be read only once."""
        given = self.base if self.base is not None else self.tokenizer
        if given is None:
            for source in reader.sources:
                if not source.is_repeatable:
                    raise DataError(
                        f"{source.name}: can be read once, but a vocabulary is learned before the "
                        "training: give a tokenizer, or files, a table or a list"
                    )

            def read() -> Iterator[list[str]]:
                for batch in reader.batches():
                    with located(batch.where):
                        yield batch.text.to_strings()

            return learn_wordpiece(read, self.vocabulary_size, self.lowercase)
        path = Path(given)
        found = read_tokenizer(path) if path.is_dir() else _from_file(path, self.lowercase)
        for token in (found.specials.begin, found.specials.end, found.specials.mask):
            if found.id_of(token) is None:
                raise FormatError(f"{path}: the tokenizer has no {quoted(token)}")
        return found

    def _check_base(self, checkpoint: Checkpoint, tokenizer: WordPiece) -> None:
        check_tokenizer(tokenizer, checkpoint.config, checkpoint.path)
        self._check_length(checkpoint.config)
        if checkpoint.config.types < 2:
            raise FormatError(f"{checkpoint.path}: has no token type of second segments")

    def _read(
        self, reader: RowReader, tokenizer: WordPiece, reading: Reading, backend: Backend
    ) -> PieceCorpus:
        most = max(1, (reading.length - SPECIAL) // 2)
        return PieceCorpus.read(reader, tokenizer, most, backend.team, parse_size(self.memory))

    def _reading(self, tokenizer: WordPiece) -> Reading:
        most = self.max_length if self.max_predictions is None else self.max_predictions
        masking = Masking.of(tokenizer, float(self.mask_ratio), most, self.whole_words)
        return Reading(self.max_length, float(self.short_ratio), masking)

    # ---- saving

    def _statistics(self, learned: PretrainingState) -> dict[str, Any]:
        return {
            "config": learned.config.to_dict(),
            "tokenizer": tokenizer_statistics(learned.tokenizer),
            "max_length": learned.reading.length,
            "has_next": learned.network.has_next,
        }

    def _files(self, learned: PretrainingState) -> dict[str, Content]:
        return {**tokenizer_file(learned.tokenizer), _COUNTS: learned.counts}

    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> PretrainingState:
        from fastseq.store.columns import Fields

        saved = folder.statistics
        config = BertConfig.from_dict(saved["config"], "its config")
        tokenizer = restored_tokenizer(folder, saved["tokenizer"])
        check_tokenizer(tokenizer, config, folder.path)
        counts = folder.array(_COUNTS, np.int64)
        if len(counts) != len(tokenizer):
            raise FormatError(f"{len(counts)} counts of {len(tokenizer)} pieces")
        has_next = bool(saved.get("has_next", True))  # which earlier models do not have
        network = PretrainingNetwork(config, self.dropout, backend, self.seed, has_next)
        return PretrainingState(
            network,
            Fields.from_dict(saved["fields"]),
            config,
            tokenizer,
            self._reading(tokenizer),
            counts,
        )


def _from_file(path: Path, lowercase: bool) -> WordPiece:
    """The tokenizer of a vocab.txt. Raises DataError, FormatError or SettingsError."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: damaged: {error}") from None
    words = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    return WordPiece.from_vocabulary(words, lowercase)
