"""LanguageModel: what it learns, measures and writes, and that a run can be continued."""

from __future__ import annotations

import itertools
import math
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq.errors import DataError, FormatError, NotFittedError, SettingsError, TrainingError
from fastseq.models.data.tokenizer import SequenceTokenizer
from fastseq.models.generation import log_softmax
from fastseq.models.language import (
    LanguageDecoder,
    LanguageModel,
    LanguageTask,
    StreamMeasure,
    decoded,
)
from fastseq.nn.backend import Backend
from fastseq.threads import Team
from fastseq.types import Texts
from tests.models.small_data import vocabulary_of

SMALL: dict[str, Any] = {
    "hidden": 16,
    "embedding": 16,
    "batch_size": 4,
    "bptt": 10,
    "epochs": 2,
    "warmup": 0,
    "threads": 1,
}
ALPHABET = "abcdefgh "
WORDS = ["the cat sat on the mat .", "a dog sat on a log .", "the dog saw the cat ."] * 20


def cyclic(rows: int = 40) -> list[str]:
    """Rows that join to one text in which every character follows from the one before."""
    return [ALPHABET] * rows


@pytest.fixture(scope="module")
def char() -> LanguageModel:
    settings = {**SMALL, "epochs": 12, "learning_rate": 0.02}
    return LanguageModel(unit="char", **settings).fit(cyclic(), valid=cyclic(10))


@pytest.fixture(scope="module")
def word() -> LanguageModel:
    return LanguageModel(tie_weights=True, **{**SMALL, "epochs": 8, "learning_rate": 0.01}).fit(
        WORDS
    )


def task_of(model: LanguageModel, rows: list[str], valid: Any = None) -> LanguageTask:
    return model._task(rows, None, valid, {}, Backend(Team(1)))


# ---- learning and measuring


def test_cycle_is_learned_and_continued(char: LanguageModel) -> None:
    found = char.evaluate(cyclic(10))
    assert list(found) == ["nats", "perplexity", "units", "bits_per_character", "unknown_rate"]
    assert found["nats"] < 0.1
    assert found["units"] == 89
    assert found["perplexity"] == pytest.approx(math.exp(found["nats"]))
    assert found["bits_per_character"] == pytest.approx(found["nats"] / math.log(2))
    assert char.score(cyclic(10)) == -found["nats"]
    assert "".join(char.generate("cde", 12, greedy=True)) == "fgh abcdefgh"
    assert "".join(char.generate("cde", 12, beams=3)) == "fgh abcdefgh"
    assert char.history_ is not None
    assert char.history_.columns["valid_loss"][-1] == pytest.approx(found["nats"])
    assert set(char.history_.measures) == {"loss", "perplexity"}


@pytest.mark.parametrize("count", [2, 3, 700, 2048, 2049, 5000])
def test_every_unit_but_the_first_is_scored_once(count: int) -> None:
    values = np.arange(count, dtype=np.int32)
    inputs, targets = map(np.concatenate, zip(*StreamMeasure(values).windows(), strict=True))
    seen = np.sort(targets[targets >= 0])
    np.testing.assert_array_equal(seen, values[1:])
    counted = targets >= 0
    np.testing.assert_array_equal(inputs[counted] + 1, targets[counted])
    # what is read is one run of the text, and all but the first stream have read some before
    steps = np.diff(inputs, axis=0)[counted[1:]]
    assert (steps == 1).all()
    for stream in range(1, inputs.shape[1]):
        assert counted[:128, stream].sum() == 0


def test_perplexity_equals_stepwise_log_probabilities(char: LanguageModel) -> None:
    text = "abcaabc hgd"
    ids = char.vocabulary_.encode(Texts.from_strings([text])).values
    decoder = LanguageDecoder(char.learned.network)
    state, total = decoder.start(1), 0.0
    for before, after in itertools.pairwise(ids):
        logits, state = decoder.step(np.array([before], np.int32), state)
        total += float(log_softmax(logits)[0, after])
    assert char.evaluate([text])["nats"] == pytest.approx(-total / (len(text) - 1), rel=1e-5)
    assert char.log_probability(text[1:], given=text[0]) == pytest.approx(total, rel=1e-5)
    first = char.log_probability(text[1:5], given=text[0])
    rest = char.log_probability(text[5:], given=text[:5])
    assert first + rest == pytest.approx(total, rel=1e-5)


def test_streamed_scores_equal_one_pass(char: LanguageModel) -> None:
    """The warm-up makes up for the context that the cut takes away."""
    rng = np.random.default_rng(0)
    values = char.vocabulary_.encode(
        Texts.from_strings(["".join(rng.choice(list(ALPHABET), 5000))])
    ).values
    network = char.learned.network
    state, total = None, 0.0
    for start in range(0, len(values) - 1, 100):
        inputs = values[:-1][start : start + 100, None]
        loss, state = network.loss_sum(inputs, values[1:][start : start + 100, None], state)
        total += loss
    assert next(StreamMeasure(values).windows())[0].shape == (64, 4)
    assert StreamMeasure(values)(network) == pytest.approx(total / (len(values) - 1), rel=1e-4)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("tied", [False, True])
def test_gradient_matches_finite_differences(cell: str, tied: bool) -> None:
    """Central differences of the loss along the gradient itself; the second window starts from a
    state."""
    model = LanguageModel(cell=cell, layers=2, unit="char", tie_weights=tied, **SMALL)
    task = task_of(model, ["the quick brown fox jumps over the lazy dog. " * 4])
    first, second = list(task.batches(0))[:2]
    task.learn(first, 0)
    carried = task.carried()
    parameters = task.parameters

    def loss() -> float:
        task.restore_carried(carried)
        return task.learn(second, 0).loss

    parameters.zero_gradients()
    loss()
    slope = parameters.gradients.copy()
    norm = float(np.sqrt((slope.astype(np.float64) ** 2).sum()))
    start, losses = parameters.values.copy(), []
    for step in (1e-2, -1e-2):
        parameters.values[...] = start + np.float32(step / norm) * slope
        losses.append(loss())
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(norm, rel=5e-3)


def test_state_is_carried_within_an_epoch_and_reset_between() -> None:
    """The loss of a window depends on the window before, and an epoch on none."""
    task = task_of(LanguageModel(unit="char", **SMALL), cyclic())
    first, second = list(task.batches(0))[:2]
    begun = task.learn(first, 0).loss
    after = task.learn(second, 0).loss
    assert task.learn(second, 0).loss != after  # from another state
    assert task.learn(first, 0).loss == begun
    assert task.learn(second, 0).loss == after


def test_weights_have_pytorch_names_and_tied_ones_are_shared(word: LanguageModel) -> None:
    names = set(word.learned.network.parameters)
    lstm = {f"lstm.{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    assert names == {"embedding.weight", "output.bias"} | lstm
    free = task_of(LanguageModel(**SMALL), WORDS)
    assert set(free.parameters) == names | {"output.weight"}


def test_results_do_not_depend_on_threads() -> None:
    settings = {**SMALL, "hidden": 64, "embedding": 32, "dropout": 0.2, "bptt": 20}
    rows = cyclic(60)
    one = LanguageModel(unit="char", layers=2, **settings).fit(rows)
    two = LanguageModel(unit="char", layers=2, **{**settings, "threads": 2}).fit(rows)
    np.testing.assert_array_equal(
        one.learned.network.parameters.values, two.learned.network.parameters.values
    )


def test_gradient_flow_is_that_of_the_last_step() -> None:
    model = LanguageModel(cell="rnn", unit="char", **{**SMALL, "epochs": 1})
    flow = model.fit(cyclic(), gradient_flow=True).gradient_flow_
    assert list(flow) == ["before training", "epoch 1"]
    assert flow["before training"].shape == (10,)
    assert flow["before training"][-1] < flow["before training"][0]
    plain = LanguageModel(cell="rnn", unit="char", **{**SMALL, "epochs": 1}).fit(cyclic())
    np.testing.assert_array_equal(
        model.learned.network.parameters.values, plain.learned.network.parameters.values
    )


# ---- keeping and continuing


def test_save_and_load_round_trip(word: LanguageModel, char: LanguageModel, tmp_path: Path) -> None:
    for model, name in ((word, "word"), (char, "char")):
        model.save(tmp_path / name)
        loaded = LanguageModel.load(tmp_path / name, threads=1)
        assert loaded.get_params() == model.get_params()
        assert "".join(loaded.generate("a", 30, seed=4)) == "".join(model.generate("a", 30, seed=4))
        assert loaded.log_probability("a") == model.log_probability("a")


@pytest.mark.parametrize("diverges", [False, True])
@pytest.mark.parametrize("step", [1, 5, 9, 14])
def test_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, step: int, diverges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carried states and dropout included, in the middle of an epoch and at its end."""
    settings = {**SMALL, "epochs": 3, "layers": 2, "dropout": 0.3, "recurrent_dropout": 0.1}
    rows = cyclic()
    whole = LanguageModel(unit="char", **settings).fit(rows, valid=cyclic(5))
    learn, taken = LanguageTask.learn, []

    def interrupted(self: LanguageTask, batch: Any, key: int) -> Any:
        result = learn(self, batch, key)
        taken.append(key)
        if len(taken) != step:
            return result
        if diverges:
            return result._replace(loss=math.nan)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(LanguageTask, "learn", interrupted)
    model = LanguageModel(unit="char", **settings)
    with pytest.raises(TrainingError if diverges else KeyboardInterrupt):
        model.fit(rows, valid=cyclic(5), path=tmp_path / "model", checkpoint_seconds=0)
    assert len(taken) == step + (not diverges), "Ctrl-C: and a look at the next"
    resumed = LanguageModel(unit="char", **settings)
    resumed.fit(rows, valid=cyclic(5), path=tmp_path / "model", resume=True)
    np.testing.assert_array_equal(
        resumed.learned.network.parameters.values, whole.learned.network.parameters.values
    )
    with pytest.raises(SettingsError, match="cannot resume"):
        LanguageModel(unit="char", **settings).fit(
            ["another text " * 30], path=tmp_path / "model", resume=True
        )


# ---- writing text


def test_generated_words_are_joined_as_text(word: LanguageModel) -> None:
    text = "".join(word.generate("the dog", 60, seed=1))
    assert text.startswith(" ")
    lines = ("the dog" + text).split("\n")
    assert len(lines) > 3
    assert all(line == " ".join(line.split()) for line in lines)
    learned = set(word.vocabulary_.texts.to_strings())
    assert {token for line in lines for token in line.split()} <= learned - {"<unk>", "<eos>"}
    begun = "".join(word.generate("", 5, greedy=True))
    assert begun.split()[0] in {"the", "a"}
    assert not begun.startswith(" ")


def test_generation_can_stop_at_the_end_of_a_row(word: LanguageModel, char: LanguageModel) -> None:
    row = "".join(word.generate("the cat", 100, greedy=True, end_with_row=True))
    assert row.endswith(".")
    assert "\n" not in row
    best = "".join(word.generate("the", 12, beams=4, end_with_row=True))
    assert "\n" not in best
    with pytest.raises(SettingsError, match="end_with_row"):
        char.generate("a", 5, end_with_row=True)


def test_same_seed_generates_the_same_text(char: LanguageModel) -> None:
    def drawn(**settings: Any) -> str:
        return "".join(char.generate("a", 80, temperature=2.5, **settings))

    assert drawn(seed=1) == drawn(seed=1)
    assert drawn(seed=1) != drawn(seed=2)
    with pytest.raises(SettingsError, match="seed must be a whole number of at least 0, not -1"):
        char.generate("a", 80, seed=-1)
    assert drawn(top_k=1) == "".join(char.generate("a", 80, greedy=True))
    assert drawn(top_p=1e-9) == "".join(char.generate("a", 80, greedy=True))


def test_generators_of_one_model_can_interleave(char: LanguageModel) -> None:
    """Each keeps the packed weights while it samples, and none changes another's state."""
    alone = ["".join(char.generate(start, 30, temperature=2.0, seed=4)) for start in "ab"]
    first, second = (char.generate(start, 30, temperature=2.0, seed=4) for start in "ab")
    drawn = ["", ""]
    for one, other in zip_longest(first, second, fillvalue=""):
        drawn[0] += one
        drawn[1] += other
    assert drawn == alone
    abandoned = char.generate("a", 30)
    next(abandoned)
    del abandoned
    assert "".join(char.generate("b", 30, temperature=2.0, seed=4)) == alone[1]


def test_generation_step_excludes_other_threads(
    char: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would repack the output's weight in the same memory while it is read."""
    network = char.learned.network
    project, free = network.output.project, []

    def taken() -> bool:
        got = network.lock.acquire(blocking=False)
        if got:
            network.lock.release()
        return got

    def projected(*given: Any) -> None:
        with ThreadPoolExecutor(1) as other:
            free.append(other.submit(taken).result())
        project(*given)

    monkeypatch.setattr(network.output, "project", projected)
    assert len("".join(char.generate("a", 5))) == 5
    assert free
    assert not any(free)


@pytest.mark.parametrize("prompt", [5, None, b"a"])
def test_non_text_prompt_is_rejected(char: LanguageModel, prompt: Any) -> None:
    with pytest.raises(DataError, match=r"the prompt is a \w+, expected a string"):
        char.generate(prompt, 5)


def test_text_streams(char: LanguageModel) -> None:
    """A piece comes before the next one is computed."""
    steps = []
    network = char.learned.network
    hidden = network.hidden
    network.hidden = lambda *given: steps.append(1) or hidden(*given)  # type: ignore[method-assign]
    try:
        text = char.generate("a", 50)
        assert steps == [], "settings are checked at once, the model waits to be asked"
        next(text)
        assert len(steps) == 1
        next(text)
        assert len(steps) == 2
    finally:
        del network.hidden  # type: ignore[method-assign]


def test_beam_search_finds_the_most_probable(word: LanguageModel) -> None:
    """As many beams as there are sequences: none is more probable, by the model's own word."""
    best = "".join(word.generate("the", 2, beams=400)).split(" ")[1:]
    units = [u for u in word.vocabulary_.texts.to_strings() if u not in ("<unk>", "<eos>")]
    scores = {
        pair: word.log_probability(" ".join(pair), given="the")
        for pair in itertools.product(units, units)
    }
    assert tuple(best) == max(scores, key=lambda pair: scores[pair])
    assert sum(math.exp(score) for score in scores.values()) < 1


def test_an_empty_prompt(char: LanguageModel) -> None:
    """Characters continue from a line break, or without one from the most frequent character."""
    assert len("".join(char.generate("", 9))) == 9
    lines = LanguageModel(unit="char", **{**SMALL, "epochs": 15, "learning_rate": 0.02})
    lines.fit(["abc\n"] * 60)
    assert "".join(lines.generate("", 8, greedy=True)) == "abc\nabc\n"
    given = lines.log_probability("abc", given="\n")
    assert lines.log_probability("abc") == pytest.approx(given)
    assert lines.log_probability("", given="ab") == 0


def test_byte_models_stream_whole_characters() -> None:
    text = "über größe 日本語 🎈 "
    settings = {**SMALL, "epochs": 60, "learning_rate": 0.02}
    model = LanguageModel(unit="byte", **settings).fit([text] * 30)
    assert len(model.vocabulary_) == 256
    out = list(model.generate("über größe 日本", 14, greedy=True))
    assert "".join(out) == "語 🎈 über "[: len("".join(out))]
    assert len("".join(out)) >= 8
    assert all(len(piece) == 1 for piece in out)
    noise = "".join(model.generate("é", 400, temperature=5.0))
    assert "\ufffd" not in noise
    noise.encode("utf-8")
    assert model.evaluate([text * 3])["bits_per_byte"] < 1


def test_text_is_streamed_in_pieces() -> None:
    byte = vocabulary_of(SequenceTokenizer("byte"), [Texts.from_strings(["x"])])
    split = list("a日b🎈".encode())
    assert list(decoded(byte, split)) == ["a", "日", "b", "🎈"]
    assert list(decoded(byte, split[:-1])) == ["a", "日", "b"]  # the last one is not whole
    assert list(decoded(byte, [0xFF, 0x61, 0xE6, 0x62])) == ["a", "b"]
    rows = vocabulary_of(SequenceTokenizer("space"), [Texts.from_strings(["x y"])], end=True)
    assert "".join(decoded(rows, [2, 3, 1, 2, 3])) == "x y\nx y"
    assert "".join(decoded(rows, [2, 1, 3], before=3)) == " x\ny"
    char = vocabulary_of(SequenceTokenizer("char"), [Texts.from_strings(["e\u0301x"])])
    assert "".join(decoded(char, [1, 2, 3], before=1)) == "e\u0301x"


# ---- bad input


def test_unknown_prompt_unit_is_rejected(char: LanguageModel, word: LanguageModel) -> None:
    with pytest.raises(DataError, match="the prompt holds 'é', which training did not have"):
        char.generate("abé")
    with pytest.raises(DataError, match="the prompt holds 'horse'"):
        word.generate("The HORSE")
    with pytest.raises(DataError, match="the text holds 'z'"):
        char.log_probability("abz")
    cut = LanguageModel(max_vocabulary=5, **SMALL).fit(WORDS)
    assert cut.report_["training"].unknown > 0
    out = "".join(cut.generate("the horse", 40, temperature=3.0))
    assert "<unk>" not in out
    assert cut.log_probability("horse") == cut.log_probability("mat")


def test_units_of_held_out_text_that_are_unknown_are_counted(char: LanguageModel) -> None:
    char.evaluate(["abcé"])
    assert char.report_["data"].unknown == 1


def test_settings_are_checked_before_sampling(char: LanguageModel) -> None:
    wrong: list[dict[str, Any]] = [
        {"length": 0},
        {"temperature": -1},
        {"top_k": 0},
        {"top_p": 0},
        {"beams": 0},
        {"beams": 2, "temperature": 1},
        {"greedy": True, "top_k": 3},
    ]
    for settings in wrong:
        with pytest.raises(SettingsError):
            char.generate("a", **settings)
    with pytest.raises(NotFittedError):
        LanguageModel().generate("a")
    for settings, said in (
        ({"unit": "letter"}, "unit is 'letter'"),
        ({"bptt": 0}, "bptt"),
        ({"tie_weights": True, "embedding": 8}, "tie_weights needs"),
    ):
        with pytest.raises(SettingsError, match=said):
            LanguageModel(**{**SMALL, **settings}).fit(WORDS)
    with pytest.raises(SettingsError, match="no y"):
        LanguageModel(**SMALL).fit(WORDS, WORDS)


def test_too_short_or_missing_text_is_rejected(char: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lower the batch size, or give more text"):
        LanguageModel(unit="char", **SMALL).fit(["abc"])
    with pytest.raises(DataError, match="no text"):
        LanguageModel(unit="char", **SMALL).fit([])
    with pytest.raises(DataError, match="a single unit"):
        char.evaluate(["a"])
    with pytest.raises(DataError, match="a single unit"):
        LanguageModel(unit="char", **SMALL).fit(cyclic(), valid=["a"])
    pq.write_table(pa.table({"body": cyclic(), "n": range(40)}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"other": cyclic()}), tmp_path / "valid.parquet")
    with pytest.raises(DataError, match=r"valid\.parquet.*'body'"):
        LanguageModel(unit="char", **SMALL).fit(
            tmp_path / "train.parquet", valid=tmp_path / "valid.parquet"
        )


def test_embeddings_initialise_the_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, 12)).astype(np.float32)
    lines = [
        f"{w} {' '.join(map(str, v))}" for w, v in zip(("the", "cat", "x"), vectors, strict=True)
    ]
    (tmp_path / "vectors.txt").write_text("3 12\n" + "\n".join(lines) + "\n")
    settings = {**SMALL, "embedding": None, "hidden": 12, "tie_weights": True}
    model = LanguageModel(
        embeddings=str(tmp_path / "vectors.txt"), freeze_embeddings=True, **settings
    ).fit(WORDS)
    table = model.learned.network.parameters.views["embedding.weight"]
    the = model.vocabulary_.lookup(Texts.from_strings(["the"]))[0]
    np.testing.assert_array_equal(table[the], vectors[0])
    model.save(tmp_path / "model")
    coverage = model.embeddings_coverage_
    assert coverage is not None
    assert coverage["found"] == 2, "the and cat; <unk> and <eos> do not count"
    words = " ".join(WORDS).split()
    assert coverage["tokens"] == len(words)
    assert coverage["tokens_found"] == words.count("the") + words.count("cat")
    assert LanguageModel.load(tmp_path / "model").embeddings_coverage_ == coverage
    assert LanguageModel.load(tmp_path / "model").log_probability("the cat") < 0


def test_damaged_vocabulary_is_rejected(char: LanguageModel, tmp_path: Path) -> None:
    char.save(tmp_path / "model")
    (found,) = (tmp_path / "model").glob("data-*/vocabulary.parquet")
    data = bytearray(found.read_bytes())
    data[len(data) // 2] ^= 1
    found.write_bytes(data)
    with pytest.raises(FormatError, match=r"vocabulary\.parquet"):
        LanguageModel.load(tmp_path / "model")
