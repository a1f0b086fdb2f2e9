"""Fine-tuning of BERT for tags, answers, rankings and vectors, against transformers
(bench/golden.py: the file), and its bits and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fastseq
from fastseq import BertTagger
from fastseq.errors import DataError
from fastseq.models.bert.finetuning import BertModel, BertTask
from fastseq.models.bert.words import WordEncoder, _windows
from fastseq.store.rows import open_rows
from fastseq.text.wordpiece import WordPiece
from fastseq.types import offsets_of
from tests.bert_checkpoints import PIECES, write_checkpoint

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "transformer" / "tasks.npz"))
SPEC = json.loads(str(GOLDEN["spec"]))
TEXTS = [
    "the cat sat", "a dog ran on the mat", "cat", "cats sat , dogs ran .", "running dogs on a mat",
    "", "the dog", "a cat ran",
]  # fmt: skip
ROWS = [text.split() for text in TEXTS]
TAGS = [["B-X" if word[:3] in ("cat", "dog") else "O" for word in row] for row in ROWS]
SETTINGS: dict[str, Any] = {
    "batch_size": 3, "epochs": 3, "learning_rate": 5e-3, "dropout": 0.1, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert") / "base"
    write_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def tagger(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BertTagger, Path]:
    path = tmp_path_factory.mktemp("bert") / "model"
    model = BertTagger(base=base, threads=2, **SETTINGS)
    return model.fit(ROWS, TAGS, valid=(ROWS, TAGS), path=path), path


def golden_model(
    task: str, kind: type[BertModel], folder: Path, prefix: str = "", **settings: Any
) -> Any:
    """A model that trains as the golden states were made, from all of their weights."""
    weights = {
        prefix + name.removeprefix(f"{task}/p "): value
        for name, value in GOLDEN.items()
        if name.startswith(f"{task}/p ")
    }
    assert weights
    write_checkpoint(folder, SPEC["config"], weights)
    (folder / "vocab.txt").write_text("\n".join(SPEC["pieces"]) + "\n")

    def with_head(self: BertModel, *given: Any) -> BertTask:
        found = kind._task(self, *given)
        found.parameters.load_state_dict(weights)  # the initial head is random
        return found

    made: Any = type("Golden", (kind,), {"_task": with_head})
    return made(
        base=folder, epochs=SPEC["steps"], dropout=0.0, learning_rate=SPEC["rate"],
        weight_decay=SPEC["decay"], clip=SPEC["clip"],
        warmup_ratio=SPEC["warmup"] / SPEC["steps"], **settings,
    )  # fmt: skip


def check_losses(task: str, model: BertModel) -> None:
    assert model.history_ is not None
    losses = model.history_.columns["train_loss"]
    np.testing.assert_allclose(losses, GOLDEN[f"{task}/losses"], rtol=1e-4)


def check_resume(make: Callable[[], BertModel], given: dict[str, Any], weights: np.ndarray) -> None:
    """Training that is stopped and resumed ends with these weights."""
    model = make()

    def stop(progress: Any) -> None:
        if progress.epoch == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        model.fit(progress=stop, checkpoint_seconds=0, **given)
    model.fit(resume=True, checkpoint_seconds=0, **given)
    np.testing.assert_array_equal(model.learned.network.parameters.values, weights)


# ---- tags


def test_losses_of_tags_match_transformers(tmp_path: Path) -> None:
    rows, tags = SPEC["rows"], [[f"t{tag}" for tag in row] for row in SPEC["tags"]]
    model = golden_model("tag", BertTagger, tmp_path, batch_size=len(rows))
    model.fit(rows, tags)
    check_losses("tag", model)
    found = [tag for row in model.predict(rows) for tag in row]
    scores = GOLDEN["tag/outputs"]
    place, wanted = np.ones(len(rows), np.int64), []
    for row, words in enumerate(rows):
        for word in words:
            wanted.append(f"t{scores[row, place[row]].argmax()}")
            place[row] += 1 + word.count("x")
    assert found == wanted


def test_windows_have_each_tag_once() -> None:
    rng = np.random.default_rng(2)
    for limit in (1, 2, 7, 30):
        for words in (1, 2, 5, 60):
            is_long = limit == 30 and words == 60
            places = offsets_of(rng.integers(1, 4 if is_long else limit + 1, words + 3))
            found = _windows(4, 3, places, limit)
            row, first, stop, own, end = found
            assert (row == 4).all()
            assert own[0] == 3
            assert end[-1] == stop[-1] == words + 3
            assert (own[1:] == end[:-1]).all()
            assert ((first <= own) & (own < end) & (end <= stop)).all()
            assert (places[stop] - places[first] <= limit).all()
            if is_long:  # with words before and after it
                assert (own - first)[1:].min() > 0 < (stop - end)[:-1].min()


def test_pieces_of_words_and_long_rows() -> None:
    tokenizer = WordPiece.from_vocabulary(PIECES)
    encoder = WordEncoder(tokenizer, 7)
    words = ["cats", "", "mat", "running", "the", "on", ".,.,.,.", "\x00", "a", "cats"]
    (batch,) = open_rows(
        pa.table({"tokens": [["cat"], words, [], None]}), "tokens", targets=False
    ).batches()
    found = encoder.encode(batch)
    pieces = {word: tokenizer.words(tokenizer.encode([word]).values)[:5] for word in words}
    pieces |= {"": ["[UNK]"], "\x00": ["[UNK]"]}
    owners = []
    for b in range(len(found)):
        own = tokenizer.words(found.values[found.offsets[b] : found.offsets[b + 1]])
        assert own[0] == "[CLS]"
        assert own[-1] == "[SEP]"
        assert len(own) <= 7
        for place in found.words[found.word_offsets[b] : found.word_offsets[b + 1]]:
            word = ["cat", *words][len(owners)]
            start = place - found.offsets[b]
            wanted = pieces.get(word, [word])
            assert own[start : start + len(wanted)] == wanted
            owners.append(found.rows[b])
    assert owners == [0, *[1] * len(words)]
    bounds, rows = found.tagged_rows()
    assert bounds.tolist() == [0, 1, 11]
    assert rows.tolist() == [0, 1]
    assert found.report.messages() == [
        "2 of 4 rows have no token: left out",
        "1 of 4 rows are cut to the maximum length",
        "1 of 4 rows exceed the maximum length: split into windows",
    ]


def test_tagger_is_saved_and_measured(
    tagger: tuple[BertTagger, Path], base: Path, tmp_path: Path
) -> None:
    model, path = tagger
    assert model.tag_scheme_ == "IOB2"
    history = model.history_
    assert history is not None
    assert {"valid_accuracy", "valid_f1", "valid_loss"} <= set(history.columns)
    long = ["the", "cat", "sat", "on", "mat", "dogs"] * 9  # 4 times the positions
    found = model.predict([*ROWS, long])
    assert [len(row) for row in found] == [*map(len, ROWS), len(long)]
    loaded = fastseq.models.load(path, threads=1)
    assert isinstance(loaded, BertTagger)
    assert loaded.predict([*ROWS, long]) == found
    assert [loaded.predict([row])[0] for row in ROWS] == found[:-1]  # alone as in a batch
    tags = ["B-X" if word[:3] in ("cat", "dog") else "O" for word in long]
    measures = model.evaluate([*ROWS, long], [*TAGS, tags])
    pairs = [(a, b) for row, own in zip(found, [*TAGS, tags], strict=True)
             for a, b in zip(row, own, strict=True)]  # fmt: skip
    assert measures["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    both = sum(a == b == "B-X" for a, b in pairs)
    assert measures["recall"] == pytest.approx(both / sum(b == "B-X" for _, b in pairs))
    assert model.report_["data"].split == 1
    assert loaded.evaluate([*ROWS, long], [*TAGS, tags]) == measures
    weights = model.learned.network.parameters.values
    given = {"examples": ROWS, "y": TAGS, "valid": (ROWS, TAGS), "path": tmp_path / "model"}
    check_resume(lambda: BertTagger(base=base, threads=1, **SETTINGS), given, weights)


def test_tagger_names_bad_rows(tagger: tuple[BertTagger, Path], base: Path) -> None:
    model, _ = tagger
    fresh = BertTagger(base=base, epochs=1)
    with pytest.raises(DataError, match=r"row 1.*2 tokens in column 'tokens', but 1 tags"):
        fresh.fit([["a"], ["a", "cat"]], [["O"], ["O"]])
    with pytest.raises(DataError, match="cannot tell which column is the tags"):
        fresh.fit(pa.table({"tokens": [["a"]]}))
    with pytest.raises(DataError, match="no rows to learn from"):
        fresh.fit([[], []], [[], []])
    bad = pa.array([[b"a"], [b"a", b"\xff"]], pa.list_(pa.binary())).view(pa.list_(pa.string()))
    with pytest.raises(DataError, match=r"row 1 .*UTF-8"):
        model.predict(pa.table({"tokens": bad}))
    with pytest.raises(DataError, match="every tag is unseen in training"):
        model.evaluate([["a"]], [["Z"]])
    assert model.evaluate(ROWS[:2], [["Z", "O", "O"], TAGS[1]])["accuracy"] < 1
    assert model.report_["data"].messages()[1:] == [
        "1 of 9 tokens have a tag unseen in training: 'Z'"
    ]
