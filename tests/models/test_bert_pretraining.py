"""BertPretrainer: its data against a twin, its losses against transformers, bits, bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fastseq
from fastseq import BertClassifier, BertPretrainer, MaskedLanguageModel, TextEncoder
from fastseq.errors import (
    DataError,
    FastseqWarning,
    FormatError,
    MissingExtraError,
    SettingsError,
    TrainingError,
)
from fastseq.models.bert.checkpoint import read_checkpoint
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.network import without_decay
from fastseq.models.bert.pretraining_network import PretrainingNetwork
from fastseq.models.bert.segments import MaskedBatch, Masking, Pairs, PieceCorpus
from fastseq.nn.backend import Backend
from fastseq.nn.optimisers import AdamW, clip_norm
from fastseq.store.rows import open_rows
from fastseq.text.wordpiece import WordPiece
from fastseq.text.wordpiece_learning import learn_wordpiece
from fastseq.threads import Team
from fastseq.types import Texts
from tests.bert_checkpoints import CONFIG, PIECES, weights_of, write_checkpoint
from tests.naive import pretraining as naive

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "transformer" / "bert.npz"))
SPEC = json.loads(str(GOLDEN["spec"]))
NAMES = ["cat", "dog", "bird", "horse", "the owl", "a fish"]
VERBS = ["sat", "ran away", "sleeps on", "looks at"]
PLACES = ["the mat", "a wall", "the old house", "green grass"]
DOCUMENTS = [
    " ".join(
        f"The {NAMES[(d + s) % 6]} {VERBS[(d * s) % 4]} {PLACES[(d + 2 * s) % 4]}."
        for s in range(1 + d % 5)
    )
    for d in range(40)
]
SIZES: dict[str, Any] = {
    "vocabulary_size": 90, "layers": 1, "hidden": 16, "heads": 2, "positions": 32,
    "max_length": 32, "batch_size": 16, "learning_rate": 1e-2, "epochs": 15, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[BertPretrainer, Path]:
    path = tmp_path_factory.mktemp("pretrained") / "model"
    model = BertPretrainer(**SIZES, threads=2)
    return model.fit(DOCUMENTS, valid=DOCUMENTS[:10], path=path), path


def under(prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in GOLDEN.items() if k.startswith(prefix)}


def test_twenty_losses_match_transformers() -> None:
    shape, team = SPEC["shapes"]["gelu"], Team(2)
    config = BertConfig(
        SPEC["words"], shape["size"], shape["layers"], shape["heads"], shape["intermediate"],
        SPEC["positions"], SPEC["types"], epsilon=SPEC["eps"],
    )  # fmt: skip
    network = PretrainingNetwork(config, 0.0, Backend(team), 0)
    parameters = network.parameters
    parameters.load_state_dict(under("gelu/p "))
    updates = AdamW(
        parameters, SPEC["rate"], weight_decay=SPEC["decay"], no_decay=without_decay(parameters),
        team=team,
    )  # fmt: skip
    losses = []
    for step in range(SPEC["steps"]):
        given = under(f"gelu/{step % SPEC['batches']} ")
        places = np.flatnonzero(given["masked"] >= 0)
        batch = MaskedBatch(
            given["ids"], given["types"], given["offsets"], places,
            given["masked"][places].astype(np.int32), given["next"].astype(np.int32),
        )  # fmt: skip
        if step == 0:
            found = network.measure(batch)
            mean = found.masked / found.words + found.next / found.pairs
            assert mean == pytest.approx(float(GOLDEN["gelu/loss"]), rel=1e-5)
        parameters.zero_gradients()
        losses.append(network.learn(batch, step))
        clip_norm(parameters, SPEC["clip"], team)
        updates.step()
    np.testing.assert_allclose(losses, GOLDEN["gelu/losses"], rtol=1e-4)


# ---- data


def corpus_of(texts: list[str], tokenizer: WordPiece, most: int = 50) -> PieceCorpus:
    from fastseq.store.in_memory import as_source

    reader = open_rows(as_source(texts, None, "text"), "text", targets=False, outputs=False)
    return PieceCorpus.read(reader, tokenizer, most, Team(2))


def test_sentences() -> None:
    words = ["a", "b", "##b", "mr", "3", "5", *'.!?")。', "\u4e2d", "\u201d"]
    tokenizer = WordPiece.from_vocabulary([*PIECES[:5], *words])
    texts = [
        'a b. b "a!" b? (a.) a',
        "a 3.5 b",
        "a b\na b\n\n",
        "a。b。”a",
        "",
        "...",
        "a b bbb a a a b",
    ]
    corpus = corpus_of(texts, tokenizer, 5)
    found = [tokenizer.words(corpus.values[a:b]) for a, b in pairwise(corpus.segments)]
    assert [" ".join(each) for each in found] == [
        "a b .", 'b " a ! "', "b ?", "[UNK] a . )", "a", "a 3 . 5 b",
        "a b", "a b", "a 。", "b 。 \u201d", "a", ". . .", "a b b ##b ##b", "a a a b",
    ]  # fmt: skip
    assert corpus.documents.tolist() == [0, 5, 6, 8, 11, 12, 14]
    assert (corpus.report.rows, corpus.report.skipped) == (7, 1)


@pytest.mark.parametrize("whole_words", [False, True])
def test_pairs_and_masks_match_the_twin(whole_words: bool) -> None:
    rng = np.random.default_rng(1)
    tokenizer = WordPiece.from_vocabulary(PIECES)
    texts = [
        " ".join(
            " ".join(rng.choice(["cats", "the", "running", "dog", "mats"], rng.integers(1, 9)))
            + "."
            for _ in range(rng.integers(1, 9))
        )
        for _ in range(60)
    ]
    corpus = corpus_of(texts, tokenizer)
    pieces = [corpus.values[a:b].tolist() for a, b in pairwise(corpus.segments)]
    documents = [pieces[a:b] for a, b in pairwise(corpus.documents)]
    length, short, key = 24, 0.3, 2**63 + 12345
    expected = naive.pairs(documents, length - 3, round(short * 2**30), key)
    drawn = Pairs.draw(corpus, length, short, key, Team(2))
    parts = (
        (drawn.firsts, drawn.lengths[:, 0]), (drawn.seconds, drawn.lengths[:, 1])
    )  # fmt: skip
    a, b = (
        [corpus.values[s : s + n].tolist() for s, n in zip(starts, counts, strict=True)]
        for starts, counts in parts
    )
    assert list(zip(a, b, drawn.labels.tolist(), strict=True)) == expected
    assert 0.4 < drawn.labels.mean() < 0.9
    masking = Masking.of(tokenizer, 0.25, 4, whole_words)
    within = {i for i, piece in enumerate(PIECES) if piece.startswith("##")}
    numbers = np.arange(len(drawn))[::-1].copy()
    batch = drawn.batch(numbers, masking, key)
    twins = [
        naive.masked(a[i], b[i], i, within, len(PIECES), 0.25, 4, whole_words, key, 2, 3, 4)
        for i in numbers.tolist()
    ]
    assert batch.ids.tolist() == [id for twin in twins for id in twin[0]]
    assert batch.types.tolist() == [kind for twin in twins for kind in twin[1]]
    targets = np.array([target for twin in twins for target in twin[2]])
    np.testing.assert_array_equal(batch.places, np.flatnonzero(targets >= 0))
    np.testing.assert_array_equal(batch.words, targets[batch.places])
    for by_tokens in (False, True):
        batches = list(drawn.batches(7, by_tokens, [0, 1]))
        sizes = [int(drawn.tokens[part].sum()) if by_tokens else len(part) for part in batches]
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(drawn)))
        assert max(sizes) - min(sizes) <= (2 * length if by_tokens else 1)


def test_a_learned_vocabulary_is_always_the_same() -> None:
    def read() -> list[list[str]]:
        return [DOCUMENTS[:20], DOCUMENTS[20:], ["Élan 3,5 中文"]]

    found = [learn_wordpiece(read, 90) for _ in range(3)]
    assert found[0].vocabulary == found[1].vocabulary == found[2].vocabulary
    assert list(found[0].vocabulary)[:5] == PIECES[:5]
    assert {"the", "house", "##s"} <= found[0].vocabulary.keys()
    assert len(found[0]) <= 90
    kept = learn_wordpiece(read, 90, lowercase=False)
    assert "The" in kept.vocabulary


# ---- models


def test_documents_of_one_sentence(tmp_path: Path) -> None:
    settings = {**SIZES, "epochs": 2, "threads": 1, "dropout": 0.0}
    some = BertPretrainer(**settings).fit([*DOCUMENTS[:9], ""])
    report = some.report_["training"]
    assert report.single == sum(text.count(".") == 1 for text in DOCUMENTS[:9]) == 2
    assert "2 of 10 rows have a single sentence: none follows it" in report.messages()
    single = [text.partition(".")[0] + "." for text in DOCUMENTS]
    with pytest.warns(FastseqWarning, match="the table: no row has two sentences") as told:
        model = BertPretrainer(**settings).fit(single, valid=DOCUMENTS, path=tmp_path / "model")
    assert len(told) == 1
    assert model.report_["training"].single == len(single)
    views = model.learned.network.parameters.views
    initial = PretrainingNetwork(model.learned.config, 0.0, Backend(Team(1)), model.seed)
    for name, weights in initial.parameters.views.items():
        learns = "pooler" not in name and "seq_relationship" not in name
        assert np.array_equal(views[name], weights) != learns, name
    found = model.evaluate(DOCUMENTS)
    assert found["loss"] == found["masked_loss"]
    assert BertPretrainer.load(tmp_path / "model").evaluate(DOCUMENTS) == found
    found = some.evaluate(DOCUMENTS)
    assert found["loss"] == found["masked_loss"] + found["next_loss"]


def test_a_stream_is_not_read_for_a_vocabulary(tmp_path: Path) -> None:
    def texts() -> Iterator[dict[str, str]]:
        yield from ({"text": text} for text in DOCUMENTS)

    table = pa.table({"text": DOCUMENTS})
    settings = {**SIZES, "epochs": 1, "threads": 1}
    with pytest.raises(DataError, match=r"BatchReader: can be read once, .* give a tokenizer"):
        BertPretrainer(**settings).fit(table.to_reader())
    with pytest.raises(DataError, match="can be read once, but a vocabulary is learned before"):
        BertPretrainer(**settings).fit(texts())
    model = BertPretrainer(**settings).fit(table)
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(model.tokenizer_.vocabulary) + "\n")
    weights = model.learned.network.parameters.values
    for corpus in (table.to_reader(), texts()):
        again = BertPretrainer(tokenizer=vocabulary, **settings).fit(corpus)
        np.testing.assert_array_equal(again.learned.network.parameters.values, weights)


def test_it_learns_on_any_number_of_threads(fitted: tuple[BertPretrainer, Path]) -> None:
    model, _ = fitted
    history = model.history_
    assert history is not None
    columns = history.columns
    assert columns["train_loss"][-1] < columns["train_loss"][0] - 0.5
    assert columns["valid_masked_loss"][-1] < columns["valid_unigram_loss"][-1]
    again = BertPretrainer(**SIZES, threads=1).fit(DOCUMENTS, valid=DOCUMENTS[:10])
    weights = model.learned.network.parameters.values
    np.testing.assert_array_equal(again.learned.network.parameters.values, weights)
    measures = again.evaluate(DOCUMENTS[:10])
    assert measures["loss"] == min(columns["valid_loss"])
    table = model.learned.network.embeddings.words.values["weight"]
    assert table.std() > 0.01


def test_a_resumed_training_has_the_same_bits(
    fitted: tuple[BertPretrainer, Path], tmp_path: Path
) -> None:
    model, _ = fitted

    class StopError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.epoch == 2 and progress.valid is None:
            raise StopError

    path, corpus = tmp_path / "model", {"valid": DOCUMENTS[:10], "path": tmp_path / "model"}
    with pytest.raises(StopError):
        BertPretrainer(**SIZES, threads=1).fit(
            DOCUMENTS, progress=stop, checkpoint_seconds=0, **corpus
        )
    again = BertPretrainer(**SIZES, threads=1).fit(DOCUMENTS, resume=True, **corpus)
    weights = model.learned.network.parameters.values
    np.testing.assert_array_equal(again.learned.network.parameters.values, weights)
    other = BertPretrainer(**SIZES | {"mask_ratio": 0.2}, threads=1)
    with pytest.raises(SettingsError):
        other.fit(DOCUMENTS, resume=True, valid=DOCUMENTS[:10], path=path)


def test_saved_exported_and_continued(fitted: tuple[BertPretrainer, Path], tmp_path: Path) -> None:
    model, path = fitted
    loaded = fastseq.models.load(path, threads=1)
    assert isinstance(loaded, BertPretrainer)
    assert loaded.evaluate(DOCUMENTS) == model.evaluate(DOCUMENTS)
    model.export(tmp_path / "out")
    found, views = read_checkpoint(tmp_path / "out"), model.learned.network.parameters.views
    for name, array in {**found.weights, **found.others}.items():
        own = name if name.startswith("cls") else f"bert.{name}"
        np.testing.assert_array_equal(array, views[own])
    assert len(found.weights) + len(found.others) == len(views)
    text = "The [MASK] sat on the [MASK]."
    filled = MaskedLanguageModel.load(tmp_path / "out", threads=1).fill(text, k=90)
    assert filled == MaskedLanguageModel.load(path, threads=1).fill(text, k=90)
    assert [sum(word.probability for word in words) for words in filled] == pytest.approx([1, 1])
    assert filled[0][0].probability >= filled[0][1].probability
    assert TextEncoder.load(tmp_path / "out", threads=1).encode("the cat").shape == (16,)
    texts, labels = DOCUMENTS[:8], ["a", "b"] * 4
    BertClassifier(base=tmp_path / "out", epochs=1, threads=1).fit(texts, labels)
    more = BertPretrainer(
        base=tmp_path / "out", recipe="google", whole_words=True, batch_tokens=200, epochs=1,
        max_length=20, max_predictions=2, threads=1,
    )  # fmt: skip
    more.fit(DOCUMENTS)
    assert more.tokenizer_.vocabulary == model.tokenizer_.vocabulary
    changed = more.learned.network.parameters.values - model.learned.network.parameters.values
    assert 0 < np.abs(changed).max() < 0.1  # it began there
    settings = more._training_settings(0.0, more.learned.network.parameters)
    assert settings.schedule == "polynomial"
    assert not settings.optimiser_settings["bias_correction"]


# ---- bad input


def test_wrong_settings_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, vocabulary = tmp_path / "base", tmp_path / "vocab.txt"
    write_checkpoint(base)
    vocabulary.write_text("[UNK]\nthe\n")
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"base": base, "layers": 3}, SettingsError, "the base sets layers"),
        ({"hidden": 10, "heads": 3}, SettingsError, "3 heads do not divide hidden"),
        ({"max_length": 99, "positions": 40}, SettingsError, "max_length is 99, but the model"),
        ({"base": base}, SettingsError, "max_length is 128, but the model has 16"),
        ({"mask_ratio": 1.5}, SettingsError, "mask_ratio is 1.5"),
        ({"recipe": "google", "optimizer": "sgd"}, SettingsError, "recipe google is of adamw"),
        ({"tokenizer": vocabulary}, FormatError, r"vocab.txt: the tokenizer has no '\[CLS\]'"),
        ({"tokenizer": tmp_path / "none"}, DataError, "none: cannot be read"),
        ({"vocabulary_size": 9}, SettingsError, "vocabulary_size"),
        ({"device": "cuda"}, fastseq.DeviceError, "cuda"),
    ]
    for given, kind, message in wrong:
        with pytest.raises(kind, match=message):
            BertPretrainer(**given).fit(["the quick brown fox jumps"])
    with pytest.raises(DataError, match="no word to learn"):
        BertPretrainer().fit(["", None])
    with pytest.raises(DataError, match="no text to learn from"):
        BertPretrainer(base=base, max_length=16).fit(["", None])
    with pytest.raises(DataError, match=r"row 1 \(from 0\)"):
        BertPretrainer(base=base, max_length=16).fit(
            Texts(np.array([97, 255], np.uint8), np.array([0, 1, 2], np.int64))
        )
    with pytest.raises(TrainingError, match="the loss became nan"):
        BertPretrainer(base=base, max_length=16, learning_rate=1e25, clip=None, warmup_ratio=0.0,
                       epochs=3).fit(["the cat sat. a dog ran."] * 9)  # fmt: skip
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"fastseq\[tokenizers\]"):
        BertPretrainer().fit(["the cat"])


def test_masks_of_other_checkpoints(tmp_path: Path) -> None:
    weights, words = weights_of(CONFIG), CONFIG["vocab_size"]
    H = CONFIG["hidden_size"]
    write_checkpoint(tmp_path / "plain", weights=weights)
    with pytest.raises(FormatError, match="without a head for masked words"):
        MaskedLanguageModel.load(tmp_path / "plain")
    head = {
        "cls.predictions.transform.dense.weight": np.eye(H, dtype=np.float32),
        "cls.predictions.transform.dense.bias": np.zeros(H, np.float32),
        "cls.predictions.transform.LayerNorm.gamma": np.ones(H, np.float32),
        "cls.predictions.transform.LayerNorm.beta": np.zeros(H, np.float32),
        "cls.predictions.decoder.bias": np.arange(words, dtype=np.float32) * 1000,
        "cls.predictions.decoder.weight": weights["embeddings.word_embeddings.weight"],
    }
    write_checkpoint(tmp_path / "masked", weights=weights | head)
    model = MaskedLanguageModel.load(tmp_path / "masked", threads=1)
    ((best, *_),) = model.fill("the [MASK]", k=2)
    assert best.word == PIECES[-1]
    for text, message in (("the cat", r"no \[MASK\]"), ("the [MASK] " * 20, "16 positions")):
        with pytest.raises(DataError, match=message):
            model.fill(text)
    head["cls.predictions.decoder.weight"] = np.zeros((words, H), np.float32)
    write_checkpoint(tmp_path / "untied", weights=weights | head)
    with pytest.raises(FormatError, match="only tied"):
        MaskedLanguageModel.load(tmp_path / "untied")
