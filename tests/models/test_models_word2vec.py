"""Word2Vec from a corpus to vectors: what it learns, repeats, resumes, refuses."""

from __future__ import annotations

import copy
import pickle
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq.errors import DataError, FastseqError, FormatError, NotFittedError, SettingsError
from fastseq.models.word_vectors import word2vec as module
from fastseq.models.word_vectors.word2vec import Word2Vec
from fastseq.text.analyzer import Analyzer
from fastseq.training import hogwild
from fastseq.vectors.folder import VectorsWriter
from fastseq.vectors.words import WordVectors
from tests.models.topics import coherence, stop_after, texts


def small(**settings):
    settings = {"dimensions": 16, "epochs": 8, "sample": 0.0, "threads": 1, **settings}
    return Word2Vec(**settings)


@pytest.mark.parametrize("architecture", ["skipgram", "cbow"])
@pytest.mark.parametrize("loss", ["negative", "hierarchical"])
@pytest.mark.parametrize("threads", [1, 2])
def test_words_of_a_topic_are_neighbours(architecture, loss, threads):
    model = small(architecture=architecture, loss=loss, threads=threads, learning_rate=0.05)
    model.fit(texts())
    assert coherence(model.vectors_) == 1.0


def test_words_are_ordered_by_frequency():
    lines = ["bb bb bb cc cc cc cc aa aa aa aa", "dd dd bb", "aa"]
    found = small(epochs=1, min_count=3).fit(lines).vectors_
    assert found.words == ["aa", "bb", "cc"]  # of equals the first in the text
    assert found.counts.tolist() == [5, 4, 4]


def test_one_thread_and_a_seed_give_the_same_bits():
    one, two, other = (small(seed=seed).fit(texts(100)).vectors_.vectors for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert abs(one - other).max() > 1e-3


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The place of a training of 3 epochs that was stopped in the second."""
    monkeypatch.setattr(hogwild, "ROUND", 500)
    with pytest.raises(KeyboardInterrupt):
        small(epochs=3).fit(texts(200), path=tmp_path / "v", report=stop_after(7))
    return tmp_path / "v"


def test_resumed_training_ends_with_the_same_bits(stopped):
    with pytest.raises(FormatError, match="unfinished training: resume it first"):
        WordVectors.load(stopped)
    whole = small(epochs=3).fit(texts(200)).vectors_.vectors
    resumed = small(epochs=3).fit(texts(200), path=stopped, resume=True)
    np.testing.assert_array_equal(resumed.vectors_.vectors, whole)
    assert resumed.history_["epoch"] == [1, 2, 3]
    assert not (stopped / "checkpoint").exists()
    with pytest.raises(SettingsError, match=r"already exists: start=…"):
        small(epochs=3).fit(texts(200), path=stopped)


def test_resuming_refuses_another_training(stopped):
    for settings, more, message in (
        ({"window": 4}, {}, "window was 5 in that run, now 4"),
        ({"min_count": 2}, {}, "min_count was 5 in that run, now 2"),
        ({}, {"valid": texts(20)}, "the words held out are not what they were"),
        ({}, {"start": small(epochs=1).fit(texts(200))}, "the vectors to start from are not"),
    ):
        with pytest.raises(SettingsError, match=message):
            small(epochs=3, **settings).fit(texts(200), path=stopped, resume=True, **more)
    with pytest.raises(SettingsError, match="the words of the corpus are not what they were"):
        small(epochs=3).fit(texts(200, seed=9), path=stopped, resume=True)
    with pytest.raises(SettingsError, match=r"unfinished training: resume=True"):
        small(epochs=3).fit(texts(200), path=stopped)
    with pytest.raises(SettingsError, match="resume needs the path"):
        small().fit(texts(200), resume=True)
    file = next((stopped / "checkpoint").glob("data-*/array-0*"))
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\1\0")
    with pytest.raises(FormatError, match="checksum is wrong"):
        small(epochs=3).fit(texts(200), path=stopped, resume=True)


def test_overwrite_removes_the_checkpoint(stopped):
    small(epochs=1).fit(texts(50), path=stopped, overwrite=True)
    assert not (stopped / "checkpoint").exists()
    assert WordVectors.load(stopped).dimensions == 16


def test_output_path_is_checked_before_reading(tmp_path):
    def never():
        raise AssertionError("the corpus was read")
        yield

    (tmp_path / "file").write_text("x")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("x")
    for place in ("file", "theirs", "file/below"):
        for overwrite in (True, False):
            with pytest.raises(FastseqError):
                small().fit(never(), path=tmp_path / place, overwrite=overwrite)
    with VectorsWriter(tmp_path / "taken"), pytest.raises(FastseqError, match="another process"):
        small().fit(never(), path=tmp_path / "taken")


def test_ctrl_c_waits_while_the_vectors_are_written(tmp_path, monkeypatch):
    write = VectorsWriter.write

    def interrupted(self, *content):
        signal.raise_signal(signal.SIGINT)
        write(self, *content)

    monkeypatch.setattr(VectorsWriter, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(epochs=1).fit(texts(50), path=tmp_path / "v")
    assert WordVectors.load(tmp_path / "v").dimensions == 16


def test_finished_training_from_vectors_is_resumed_with_their_dimensions(tmp_path):
    start = small(epochs=1).fit(texts(60))
    model = Word2Vec(epochs=1, threads=1)
    found = model.fit(texts(60), start=start, path=tmp_path / "v").vectors_
    again = model.fit(texts(60), start=start, path=tmp_path / "v", resume=True).vectors_
    np.testing.assert_array_equal(again.vectors, found.vectors)
    other = small(epochs=2).fit(texts(60))
    with pytest.raises(SettingsError, match="the vectors to start from are not"):
        model.fit(texts(60), start=other, path=tmp_path / "v", resume=True)


def test_saved_model_equals_the_trained_one(tmp_path):
    model = small(architecture="cbow").fit(texts(60), path=tmp_path / "v")
    loaded = Word2Vec.load(tmp_path / "v")
    assert loaded.get_params() == {**model.get_params(), "analyzer": Analyzer(tokenizer="word")}
    assert loaded.vectors_.words == model.vectors_.words
    np.testing.assert_array_equal(loaded.vectors_.vectors, model.vectors_.vectors)
    np.testing.assert_array_equal(loaded.vectors_.counts, model.vectors_.counts)
    assert loaded.history_ == model.history_
    assert WordVectors.load(tmp_path / "v").words == model.vectors_.words
    with pytest.raises(SettingsError, match="already exists"):
        small().fit(texts(60), path=tmp_path / "v")
    small(epochs=1).fit(texts(60), path=tmp_path / "v", overwrite=True)


def test_training_continues_from_vectors_with_new_words(tmp_path):
    model = small(epochs=2).fit(texts(100), path=tmp_path / "v")
    first = model.vectors_
    more = [t.replace("apple", "quince") for t in texts(100, seed=1)]
    found = [
        small(epochs=2, learning_rate=1e-6).fit(more, start=start)
        for start in (model, tmp_path / "v", str(tmp_path / "v"))
    ]
    second = found[0].vectors_
    assert second.words[: len(first.words)] == first.words
    assert second.words[len(first.words) :] == ["quince"]
    np.testing.assert_allclose(second.vectors[: len(first.words)], first.vectors, atol=1e-3)
    assert second.counts[first.index("apple")] == first.counts[first.index("apple")]
    for other in found[1:]:
        np.testing.assert_array_equal(other.vectors_.vectors, second.vectors)
    # the output weights continue too: with vectors alone the loss would start over
    bare = WordVectors(first.words, first.vectors)
    alone = small(epochs=2, learning_rate=1e-6).fit(more, start=bare)
    assert found[0].history_["train_loss"][0] < alone.history_["train_loss"][0] - 0.1
    with pytest.raises(SettingsError, match="have 16 dimensions, but dimensions is 8"):
        small(dimensions=8).fit(more, start=first)
    with pytest.raises(SettingsError, match="start is of type int"):
        small().fit(more, start=3)


def test_hierarchical_output_restarts_on_new_words():
    model = small(epochs=2, loss="hierarchical").fit(texts(100))
    more = [t.replace("apple", "quince") for t in texts(100, seed=1)]
    assert "quince" in small(epochs=1, loss="hierarchical").fit(more, start=model).vectors_
    assert model.vectors_.output is None  # nodes of a tree are no words
    bare = WordVectors(model.vectors_.words, model.vectors_.vectors)
    found = [small(epochs=1).fit(more, start=start).vectors_ for start in (model, bare)]
    np.testing.assert_array_equal(found[0].vectors, found[1].vectors)


def test_copies_and_pickles_equal_the_trained_model():
    model = small(epochs=1).fit(texts(50))
    near = model.vectors_.neighbors("apple", 3)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.vectors_.neighbors("apple", 3) == near


def test_numpy_settings_are_saved(tmp_path):
    model = Word2Vec(
        dimensions=np.int64(8), seed=np.int64(3), learning_rate=np.float32(0.05), epochs=1,
        threads=1,
    )  # fmt: skip
    model.fit(texts(50), path=tmp_path / "v")
    assert Word2Vec.load(tmp_path / "v").dimensions == 8


def test_held_out_text_is_measured():
    model = small(epochs=6).fit(texts(), valid=texts(60, seed=5))
    losses = model.history_["valid_loss"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    random = small(epochs=6).fit(texts(), valid=["apple sea king plum lake duke"] * 20)
    assert losses[-1] < random.history_["valid_loss"][-1]


def test_parquet_tables_and_strings_give_the_same_vectors(tmp_path):
    lines = texts(40)
    lines[3] += " see corpus.parquet"  # strings are paths only if each can only be a path
    pq.write_table(pa.table({"title": ["x"] * 40, "body": lines}), tmp_path / "c.parquet")
    of_strings = small(epochs=1).fit(lines).vectors_
    table = pq.read_table(tmp_path / "c.parquet")
    path = tmp_path / "c.parquet"
    for source in ([path], [str(path)], str(path), table):
        found = small(epochs=1).fit(source, text_column="body").vectors_
        assert found.words == of_strings.words
        np.testing.assert_array_equal(found.vectors, of_strings.vectors)


def test_small_memory_gives_the_same_vectors():
    lines = texts(300)
    held = small(epochs=1).fit(lines).vectors_.vectors
    spilled = small(epochs=1, memory=1024).fit(lines).vectors_.vectors
    np.testing.assert_array_equal(held, spilled)


def test_long_sentence_is_read_to_its_end(monkeypatch):
    rng = np.random.default_rng(0)
    words = rng.choice([f"w{i}" for i in range(50)], 30_000).tolist()
    for longest in (module.LONGEST, 1000):
        monkeypatch.setattr(module, "LONGEST", longest)
        model = small(epochs=1, min_count=1).fit([" ".join(words)])
        assert model.vectors_.counts.sum() == 30_000
        assert model.history_["words_kept"] == [30_000]


def test_long_sentences_are_cut_into_equal_parts():
    ends = np.array([0, 5, 5, 28, 30])
    assert module.parted(ends, 10).tolist() == [0, 5, 5, 12, 20, 28, 30]
    assert module.parted(ends, 23) is ends


def test_corpus_of_one_row_is_shared_among_threads(monkeypatch):
    monkeypatch.setattr(hogwild, "ROUND", 1000)
    pieces = hogwild.cut(module.parted(np.array([50_000]), 500), 2)
    for part in pieces:
        assert len(part) - 1 == 25
        assert (np.diff(part) >= 1).all()


def test_frequent_words_are_subsampled():
    kept = small(epochs=1, sample=0.01).fit(texts()).history_["words_kept"][0]
    assert 0.1 * 7200 < kept < 0.7 * 7200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": 0}, "dimensions must be .* not 0"),
        ({"architecture": "glove"}, "architecture is 'glove'"),
        ({"loss": "softmax"}, "loss is 'softmax'"),
        ({"window": 0}, "window must be .* not 0"),
        ({"negatives": 0}, "negatives must be .* not 0"),
        ({"sample": 2.0}, "sample must be .* not 2.0"),
        ({"power": -1.0}, "ns_exponent must be .* not -1.0"),
        ({"epochs": 0}, "epochs must be .* not 0"),
        ({"min_count": 0}, "min_count must be .* not 0"),
        ({"learning_rate": -1}, "learning_rate must be .* not -1"),
        ({"analyzer": "word"}, "analyzer is 'word'"),
        ({"analyzer": Analyzer(ngrams=(1, 2))}, "without n-grams"),
        ({"seed": -1}, "seed must be .* not -1"),
    ],
)
def test_settings_out_of_range_are_rejected(settings, message):
    with pytest.raises(SettingsError, match=message):
        small(**settings).fit(texts(5))


def test_corpus_without_words_is_rejected():
    with pytest.raises(DataError, match="no words in the corpus"):
        small().fit(["", " "])
    with pytest.raises(DataError, match="no row of the corpus has two words"):
        small(min_count=1).fit(["one", "two", "two"])
    with pytest.raises(DataError, match=r"a\.parquet: no such file"):
        small().fit(["a.parquet", "b.parquet"])
    for nothing in (3, None):
        with pytest.raises(SettingsError, match="cannot read texts from a"):
            small().fit(nothing)
    with pytest.raises(DataError, match=r"none of .* 2 words occurs 5 times .*frequent 2"):
        small().fit(["one two", "two"])
    with pytest.raises(DataError, match="none of the corpus's 1 words is in the vocabulary"):
        small().fit(texts(50), valid=["elsewhere"])


def test_unfitted_model_raises_not_fitted():
    with pytest.raises(NotFittedError):
        _ = Word2Vec().vectors_


def test_loss_that_is_not_finite_stops_the_training():
    from fastseq.errors import TrainingError

    with pytest.raises(
        TrainingError, match=r"the loss became nan at epoch 1, step \d+: lower the learning rate"
    ):
        small(learning_rate=10.0, epochs=400, negatives=50, architecture="cbow").fit(texts(100))
