"""GloVe from a corpus to vectors: what it learns, repeats, resumes, refuses."""

from __future__ import annotations

import numpy as np
import pytest

from fastseq.errors import DataError, FormatError, SettingsError, TrainingError
from fastseq.models.word_vectors import glove
from fastseq.models.word_vectors.glove import GloVe
from fastseq.models.word_vectors.sentences import source_of
from fastseq.models.word_vectors.word2vec import Word2Vec
from fastseq.threads import Team
from fastseq.training import hogwild
from fastseq.vectors.words import WordVectors
from tests.models.topics import TOPICS, coherence, stop_after, texts
from tests.naive import glove as naive


def small(**settings):
    settings = {"dimensions": 8, "epochs": 60, "window": 5, "threads": 1, **settings}
    return GloVe(**settings)


@pytest.fixture
def small_tiles(monkeypatch):
    """Many small tiles, and several rounds an epoch, of a small vocabulary."""
    tiles_of = glove.tiles_of
    monkeypatch.setattr(glove, "tiles_of", lambda matrix, _, memory: tiles_of(matrix, 4, memory))
    monkeypatch.setattr(hogwild, "ROUND", 40)


@pytest.mark.parametrize(
    "settings",
    [{}, {"threads": 2}, {"symmetric": False}, {"distance_weighting": False}, {"combine": "word"}],
)
def test_words_of_a_topic_are_neighbours(settings, small_tiles):
    model = small(**settings).fit(texts())
    assert coherence(model.vectors_) == 1.0
    losses = model.history_["train_loss"]
    assert losses[-1] < 0.2 * losses[0]
    assert model.history_["words"] == [7200.0] * 60


def test_vectors_match_the_naive_twin():
    lines = texts(60)
    model = small(epochs=3, window=4, x_max=5.0, min_count=1, seed=7)
    found = model.fit(lines)
    words = found.vectors_.words
    V, d = len(words), 8
    matrix = naive.count([[words.index(w) for w in t.split()] for t in lines], V, 4)
    assert found.vectors_.statistics["cooccurrences"] == np.count_nonzero(matrix)
    draw = (np.random.default_rng(7).random((V, 2, d + 1), np.float32) - np.float32(0.5)) / d
    twin = naive.Model(draw[:, 0, :d], draw[:, 1, :d], draw[:, 0, d], draw[:, 1, d])
    cut = naive.tiles(matrix, 64, True)
    assert len(cut) == 1  # so that only its key is needed
    losses = []
    for epoch in range(3):
        key = glove.mixed_key(7, epoch)
        told, count = naive.train(twin, cut, [0], True, 5.0, 0.75, 0.05, key)
        losses.append(told / count)
    wanted = twin.numbers[0] + twin.numbers[1]
    np.testing.assert_allclose(found.vectors_.vectors, wanted, atol=1e-5 * abs(wanted).max())
    np.testing.assert_allclose(found.history_["train_loss"], losses, rtol=1e-5)


def test_vectors_are_sums_of_word_and_context_vectors():
    both, word = (small(epochs=2, combine=how).fit(texts(50)) for how in ("sum", "word"))
    contexts = both.vectors_.output
    np.testing.assert_array_equal(word.vectors_.output, contexts)
    np.testing.assert_array_equal(both.vectors_.vectors, word.vectors_.vectors + contexts)


def test_one_thread_and_a_seed_give_the_same_bits(small_tiles):
    one, two, other = (
        small(seed=seed, epochs=3, memory=memory).fit(texts(100)).vectors_.vectors
        for seed, memory in ((1, "1GB"), (1, 1000), (2, "1GB"))
    )
    np.testing.assert_array_equal(one, two)
    assert abs(one - other).max() > 1e-3


def test_epochs_use_different_orders(small_tiles):
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        model = small(seed=seed)
        sentences, _ = model._read(source_of(texts(100), None), Team(1), None)
        orders.append(model._objective(sentences, 1).order.planned(epoch)[0])
    for order in orders:
        assert sorted(order) == list(range(len(order)))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    np.testing.assert_array_equal(orders[0], orders[3])


def test_resumed_training_ends_with_the_same_bits(tmp_path, small_tiles):
    with pytest.raises(KeyboardInterrupt):
        small(epochs=3).fit(texts(200), path=tmp_path / "v", report=stop_after(7))
    with pytest.raises(FormatError, match="unfinished training"):
        WordVectors.load(tmp_path / "v")
    with pytest.raises(SettingsError, match=r"x_max was 10\.0 in that run, now 20\.0"):
        small(epochs=3, x_max=20.0).fit(texts(200), path=tmp_path / "v", resume=True)
    rounds = []
    resumed = small(epochs=3).fit(
        texts(200), path=tmp_path / "v", resume=True, report=rounds.append
    )
    whole = []
    wanted = small(epochs=3).fit(texts(200), report=whole.append)
    assert len(rounds) == len(whole) - 7 > 0
    np.testing.assert_array_equal(resumed.vectors_.vectors, wanted.vectors_.vectors)
    assert resumed.history_["train_loss"] == wanted.history_["train_loss"]


def test_training_continues_from_vectors_with_new_words(tmp_path):
    for combine in ("sum", "word"):
        place = tmp_path / combine
        model = small(epochs=40, combine=combine).fit(texts(100), path=place)
        first = model.vectors_
        more = [t.replace("apple", "quince") for t in texts(100, seed=1)]
        still = [
            small(epochs=1, learning_rate=0.0, combine=combine).fit(more, start=start)
            for start in (model, place)
        ]
        second = still[0].vectors_
        n = len(first.words)
        assert second.words == [*first.words, "quince"]
        np.testing.assert_array_equal(second.vectors[:n], first.vectors)
        np.testing.assert_array_equal(still[1].vectors_.vectors, second.vectors)
        # contexts and biases continue too: the loss is the same but for the new word's
        bare = WordVectors(first.words, first.vectors)
        alone = small(epochs=1, learning_rate=0.0, combine=combine).fit(more, start=bare)
        if combine == "sum":  # halves of a vector and a half, whose sum is the same
            np.testing.assert_allclose(alone.vectors_.vectors[:n], first.vectors, rtol=1e-6)
        assert still[0].history_["train_loss"][0] < 0.7 * alone.history_["train_loss"][0]
        further = small(epochs=40, combine=combine).fit(more, start=model).vectors_
        assert further.neighbors("quince", 1)[0][0] in TOPICS[0]
    of_word2vec = Word2Vec(dimensions=8, epochs=1, threads=1).fit(texts(50))
    found = small(epochs=1, learning_rate=0.0).fit(texts(50), start=of_word2vec).vectors_
    np.testing.assert_allclose(found.vectors, of_word2vec.vectors_.vectors, rtol=1e-6)


def test_saved_model_equals_the_trained_one(tmp_path):
    model = small(epochs=2).fit(texts(60), path=tmp_path / "v")
    loaded = GloVe.load(tmp_path / "v")
    assert loaded.window == 5
    np.testing.assert_array_equal(loaded.vectors_.vectors, model.vectors_.vectors)
    assert loaded.history_ == model.history_
    assert loaded.vectors_.statistics["cooccurrences"] > 100
    with pytest.raises(FormatError, match="another kind than word2vec"):
        Word2Vec.load(tmp_path / "v")


def test_held_out_text_is_measured():
    model = small(epochs=20).fit(texts(), valid=texts(300, seed=5))
    losses = model.history_["valid_loss"]
    assert len(losses) == 20
    assert losses[-1] < 0.5 * losses[0]
    without = small(epochs=20).fit(texts())
    np.testing.assert_array_equal(without.vectors_.vectors, model.vectors_.vectors)
    # the loss of the training text, held out, is that which its last epoch began with, or less
    same = small(epochs=20).fit(texts(), valid=texts()).history_
    assert same["valid_loss"][-1] == pytest.approx(same["train_loss"][-1], rel=0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": 0}, "dimensions must be .* not 0"),
        ({"window": 0}, "window must be .* not 0"),
        ({"window": 4096}, "window must be .* below 4096"),
        ({"symmetric": "left"}, "symmetric must be True or False"),
        ({"distance_weighting": 1}, "distance_weighting must be True or False"),
        ({"x_max": 0}, "x_max must be above 0.* not 0"),
        ({"x_max": float("nan")}, "x_max must be above 0"),
        ({"alpha": -0.1}, "alpha must be .* not -0.1"),
        ({"combine": "both"}, "combine is 'both'; expected one of sum, word"),
        ({"learning_rate": -1}, "learning_rate must be .* not -1"),
        ({"epochs": 0}, "epochs must be .* not 0"),
    ],
)
def test_settings_out_of_range_are_rejected(settings, message):
    with pytest.raises(SettingsError, match=message):
        small(**settings).fit(texts(5))


def test_corpus_without_pairs_is_rejected():
    with pytest.raises(DataError, match="no words in the corpus"):
        small().fit(["", " "])
    with pytest.raises(DataError, match="no row of the corpus has two words"):
        small(min_count=1).fit(["one", "two", "two"])
    with pytest.raises(DataError, match=r"none of .* 2 words occurs 5 times"):
        small().fit(["one two", "two"])
    with pytest.raises(DataError, match="none of the corpus's 1 words is in the vocabulary"):
        small().fit(texts(50), valid=["elsewhere"])


def test_loss_that_is_not_finite_stops_the_training():
    first = WordVectors(["apple", "pear"], np.full((2, 8), 1e25, np.float32))
    with pytest.raises(
        TrainingError,
        match=r"the loss became (nan|inf) at epoch 1, step \d+: lower the learning rate",
    ):
        small().fit(["apple pear"] * 9, start=first)


def test_many_dimensions_use_small_tiles():
    model = GloVe(dimensions=40_000, epochs=1, min_count=1, threads=1).fit(["a1 b1 c1 a1"] * 4)
    assert np.isfinite(model.vectors_.vectors).all()
