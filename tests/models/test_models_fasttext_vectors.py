"""FastText: training, saving, resuming, continuing and rejected input."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastseq.errors import DataError, SettingsError
from fastseq.models.fasttext.vectors import FastText
from fastseq.models.word_vectors.word2vec import Word2Vec
from fastseq.vectors.fasttext_bin import read_fasttext
from fastseq.vectors.folder import read_vectors
from fastseq.vectors.formats import read_word_vectors
from fastseq.vectors.words import WordVectors
from tests.models.topics import coherence, texts

STRANGE = ["aple", "rivers", "kingdom", "ü", "qqq", "cherries"]


def small(**settings):
    settings = {
        "dimensions": 16, "epochs": 6, "sample": 0.0, "threads": 1, "buckets": 5000,
        "min_count": 1, **settings,
    }  # fmt: skip
    return FastText(**settings)


@pytest.mark.parametrize("architecture", ["skipgram", "cbow"])
@pytest.mark.parametrize("loss", ["negative", "hierarchical"])
@pytest.mark.parametrize("threads", [1, 2])
def test_words_of_a_topic_are_neighbours(architecture, loss, threads):
    model = small(architecture=architecture, loss=loss, threads=threads).fit(texts())
    assert coherence(model.vectors_) == 1.0
    assert model.history_["train_loss"][-1] < model.history_["train_loss"][0]


def test_misspelt_word_is_near_the_word():
    found = small().fit(texts()).vectors_
    for wrong, right in (("aple", "apple"), ("queeen", "queen"), ("rivr", "river")):
        assert wrong not in found
        assert found.neighbors(found[wrong], 1)[0][0] == right


def test_word_is_the_mean_of_its_own_vector_and_its_n_grams(tmp_path):
    """What `vectors_` says, what the file has, and what fastText makes of the file."""
    model = small().fit(texts(100))
    found = model.vectors_
    found.export(tmp_path / "m.bin", "fasttext")
    file = read_fasttext(tmp_path / "m.bin")
    assert file.settings.model == "skipgram"
    assert file.input.shape == (len(found) + 5000, 16)
    np.testing.assert_allclose(found.output, file.output)
    again = WordVectors.load(tmp_path / "m.bin")
    assert again.words == found.words
    np.testing.assert_array_equal(again.counts, found.counts)
    np.testing.assert_allclose(again.vectors, found.vectors, atol=1e-6)
    np.testing.assert_allclose(again.vectors_of(STRANGE), found.vectors_of(STRANGE), atol=1e-6)


def test_gensim_reads_the_model_and_has_the_same_vectors(tmp_path):
    gensim = pytest.importorskip("gensim.models.fasttext")
    for architecture in ("skipgram", "cbow"):
        found = small(architecture=architecture).fit(texts(100)).vectors_
        found.export(tmp_path / "m.bin", "fasttext")
        theirs = gensim.load_facebook_vectors(str(tmp_path / "m.bin"))
        for word in found.words + STRANGE:
            np.testing.assert_allclose(theirs[word], found[word], atol=1e-6)
        whole = gensim.load_facebook_model(str(tmp_path / "m.bin"))
        np.testing.assert_allclose(whole.syn1neg, found.output)
        assert whole.sg == (architecture == "skipgram")


def test_model_without_n_grams_can_be_exported(tmp_path):
    rng = np.random.default_rng(0)
    plain = WordVectors(["one", "two"], rng.normal(size=(2, 3)))
    plain.export(tmp_path / "m.bin", "fasttext")
    again = WordVectors.load(tmp_path / "m.bin")
    np.testing.assert_array_equal(again.vectors, plain.vectors)
    assert again.subwords is None
    with pytest.raises(DataError, match="'three' is not among"):
        again["three"]


def test_save_and_load_keep_the_vectors(tmp_path):
    model = small().fit(texts(60), path=tmp_path / "v")
    wanted = model.vectors_.vectors_of(STRANGE)
    assert np.isfinite(wanted).all()
    for again in (
        FastText.load(tmp_path / "v").vectors_,
        WordVectors.load(tmp_path / "v"),
        pickle.loads(pickle.dumps(model)).vectors_,
    ):
        np.testing.assert_array_equal(again.vectors_of(STRANGE), wanted)
        np.testing.assert_array_equal(again.vectors, model.vectors_.vectors)
    loaded = FastText.load(tmp_path / "v")
    assert loaded.get_params()["min_n"] == loaded.low == 3
    loaded.save(tmp_path / "w")
    np.testing.assert_array_equal(WordVectors.load(tmp_path / "w").vectors_of(STRANGE), wanted)
    with pytest.raises(SettingsError, match="have 16 dimensions, but dimensions is 8"):
        small(dimensions=8).fit(texts(60), start=tmp_path / "v")


def test_one_thread_gives_the_same_bits_and_only_used_buckets():
    one, two, other = (small(seed=s).fit(texts(60)).vectors_ for s in (1, 1, 2))
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert not np.array_equal(one.vectors, other.vectors)
    assert 0 < len(one.subwords.table) < 1000


def test_training_continues_from_its_own_vectors(tmp_path):
    model = small().fit(texts(100), path=tmp_path / "v")
    model.vectors_.export(tmp_path / "m.bin", "fasttext")
    before = model.vectors_
    more = [t.replace("apple", "quince") for t in texts(100, seed=1)]
    for start in (model, tmp_path / "v", before, tmp_path / "m.bin"):
        again = small(epochs=1, learning_rate=1e-7).fit(more, start=start)
        found = again.vectors_
        assert found.words[: len(before)] == before.words
        assert "quince" in found.words
        np.testing.assert_allclose(found.vectors[: len(before)], before.vectors, atol=1e-4)
        np.testing.assert_allclose(found["rivr"], before["rivr"], atol=1e-4)
        assert again.history_["train_loss"][0] < model.history_["train_loss"][0] - 0.1


def test_training_continues_from_other_vectors():
    plain = Word2Vec(dimensions=16, threads=1, min_count=1, epochs=2).fit(texts(100)).vectors_
    found = small(epochs=1, learning_rate=1e-7).fit(texts(100), start=plain).vectors_
    np.testing.assert_allclose(found.vectors, plain.vectors, atol=1e-4)


def test_start_with_other_n_grams_is_rejected(tmp_path):
    model = small().fit(texts(60))
    with pytest.raises(SettingsError, match="min_n=3, max_n=6, buckets=5000"):
        small(high=5).fit(texts(60), start=model)


def test_without_n_grams_only_words_have_vectors(tmp_path):
    model = small(high=0).fit(texts(200), path=tmp_path / "v")
    assert model.vectors_.subwords is None
    again = FastText.load(tmp_path / "v")
    with pytest.raises(DataError, match="'aple' is not among the"):
        again.vectors_["aple"]
    assert small(high=0, epochs=1).fit(texts(60), start=again).vectors_.dimensions == 16


def test_held_out_loss_is_measured():
    model = small(epochs=3).fit(texts(200), valid=texts(50, seed=9))
    losses = model.history_["valid_loss"]
    assert losses[-1] < losses[0]


def test_resumed_training_ends_with_the_same_bits(tmp_path):
    whole = small(epochs=3).fit(texts(60)).vectors_
    told = []

    def stop(progress):
        told.append(progress)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(epochs=3).fit(texts(60), path=tmp_path / "v", checkpoint_seconds=0, report=stop)
    found = small(epochs=3).fit(texts(60), path=tmp_path / "v", resume=True).vectors_
    np.testing.assert_array_equal(found.vectors, whole.vectors)
    np.testing.assert_array_equal(found.subwords.table, whole.subwords.table)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 4, "high": 3}, "min_n is 4 and max_n 3"),
        ({"buckets": 0}, "buckets"),
        ({"window": 0}, "window"),
        ({"window": 5000}, "window"),
        ({"negatives": 0}, "negatives"),
        ({"architecture": "bow"}, "architecture"),
        ({"loss": "softmax"}, "loss"),
        ({"sample": -1}, "sample"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_settings_out_of_their_range_are_rejected(settings, message):
    with pytest.raises(SettingsError, match=message):
        small(**settings).fit(texts(60))


def test_empty_vocabulary_is_rejected():
    with pytest.raises(DataError, match="none of the corpus's"):
        small(min_count=10**6).fit(texts(60))


@pytest.mark.parametrize("name", ["v", "m.bin"])
def test_sequence_models_initialise_embeddings_of_any_word(tmp_path, name):
    found = small().fit(texts(60), path=tmp_path / "v").vectors_
    found.export(tmp_path / "m.bin", "fasttext")
    wanted = [*STRANGE, "apple", "", "river", "River"]
    words, vectors = read_word_vectors(tmp_path / name, wanted, make_unknown=True)
    assert words[:2] == [w for w in found.words if w in ("apple", "river")]
    assert sorted(words[2:]) == sorted(STRANGE)
    np.testing.assert_allclose(vectors, found.vectors_of(words), atol=1e-6)
    assert read_word_vectors(tmp_path / name, [*STRANGE, "apple"])[0] == ["apple"]
    assert read_word_vectors(tmp_path / name)[0] == found.words


def test_tree_nodes_are_not_words(tmp_path):
    model = small(loss="hierarchical").fit(texts(60), path=tmp_path / "v")
    assert model.vectors_.output is None
    assert WordVectors.load(tmp_path / "v").output is None
    model.vectors_.export(tmp_path / "m.bin", "fasttext")
    assert not read_fasttext(tmp_path / "m.bin").output.any()


@pytest.mark.parametrize("architecture", ["skipgram", "cbow"])
def test_unmeasured_loss_is_absent(architecture):
    model = small(loss="hierarchical", architecture=architecture).fit(["aa aa aa aa"] * 3)
    assert model.history_["train_loss"] == [None] * 6


def test_zero_length_n_grams_mean_none(tmp_path):
    model = small(low=0).fit(texts(60), path=tmp_path / "v")
    assert model.vectors_.subwords is None
    assert "subwords" not in read_vectors(tmp_path / "v").arrays


@pytest.mark.parametrize("settings", [{"phrase_threshold": float("nan")}, {"phrases": 1000}])
def test_phrase_settings_are_checked_before_training(settings):
    with pytest.raises(SettingsError, match=next(iter(settings))):
        small(**settings).fit(texts(60))
