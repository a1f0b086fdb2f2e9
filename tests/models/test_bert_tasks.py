"""Fine-tuning of BERT for tags, answers, rankings and vectors, against transformers
(bench/golden.py: the file), and its bits and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastseq
from fastseq import BertAnswerer, BertEmbedder, BertReranker, BertTagger, TextEncoder
from fastseq.errors import DataError, FastseqWarning, SettingsError
from fastseq.models.bert.answering import exact_match, word_f1
from fastseq.models.bert.contexts import ContextEncoder, best_spans
from fastseq.models.bert.finetuning import BertModel, BertTask
from fastseq.models.bert.words import WordEncoder, _windows
from fastseq.store.answers import read_answers, with_answers
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
    np.testing.assert_allclose(losses, GOLDEN[f"{task}/losses"], rtol=1e-4, atol=1e-6)


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


# ---- answers

CONTEXTS = ["the cat sat on the mat . a dog ran", "a dog ran , the cats sat", "the mat , a cat"]
QUESTIONS = ["cat on", "dog ran", "the dog"]
ANSWERS = ["the mat", "a dog", ""]  # the last has none


@pytest.fixture(scope="module")
def answerer(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BertAnswerer, Path]:
    path = tmp_path_factory.mktemp("bert") / "model"
    pairs = list(zip(QUESTIONS, CONTEXTS, strict=True))
    model = BertAnswerer(base=base, threads=2, **SETTINGS)
    return model.fit(pairs, ANSWERS, valid=(pairs, ANSWERS), path=path), path


def test_losses_of_answers_match_transformers(tmp_path: Path) -> None:
    model = golden_model("answer", BertAnswerer, tmp_path, batch_size=len(SPEC["short"]))
    answers = []
    for context, (first, last) in zip(SPEC["second"], SPEC["spans"], strict=True):
        words = context.split()
        start = len(" ".join([*words[:first], ""]))
        answers.append({"text": [" ".join(words[first : last + 1])], "answer_start": [start]})
    pairs = list(zip(SPEC["short"], SPEC["second"], strict=True))
    model.fit(pairs, answers)
    check_losses("answer", model)
    starts, ends = GOLDEN["answer/outputs"]
    tokenizer = model.learned.encoder.tokenizer
    for row, (question, context) in enumerate(pairs):
        before = 2 + len(tokenizer.encode([question]).values)
        spans = tokenizer.encode_spans([context])
        n = len(spans.starts)
        _, i, j = max((starts[row, before + i] + ends[row, before + j], i, j)
                      for i in range(n) for j in range(i, n))  # fmt: skip
        assert model.predict([pairs[row]]) == [context[spans.starts[i] : spans.stops[j]]]


def test_windows_of_contexts(base: Path) -> None:
    tokenizer = WordPiece.from_vocabulary(PIECES)
    encoder = ContextEncoder(tokenizer, 14)
    context = "é the cat sat on the mat , a dog ran . the cats sat on mat"
    rows = [
        {"question": "the cat " * 9, "context": context, "answers": {"text": ["cats sat"]}},
        {"question": "cat", "context": context, "answers": {"text": ["the"], "answer_start": [39]}},
        {"question": "cat", "context": "", "answers": {"text": []}},
        {"question": "cat", "context": context, "answers": {"text": [context]}},
    ]
    reader = open_rows(rows, "text", text=("question", "context"), targets=False)
    (batch,) = with_answers(reader, "answers").batches()
    found = encoder.encode(batch)
    report = found.report
    assert (report.split, report.cut, report.unanswered, report.unreachable) == (3, 1, 1, 1)
    assert (report.empty, report.nulls) == (1, 0)
    assert any("in no window" in line for line in report.messages())
    whole = tokenizer.encode([context]).values
    seen: dict[int, set[int]] = {}
    for b in range(len(found)):
        own = found.values[found.offsets[b] : found.offsets[b + 1]]
        assert len(own) <= 14
        pieces = own[found.seconds[b] : -1]
        first = found.first[b]
        if found.rows[b] == 2:
            assert len(pieces) == 0
            continue
        np.testing.assert_array_equal(pieces, whole[first : first + len(pieces)])
        seen.setdefault(found.rows[b], set()).update(range(first, first + len(pieces)))
        start, stop = found.spans[b]
        text = " ".join(tokenizer.words(own[start : stop + 1]))
        if found.rows[b] == 1:  # the third "the"
            is_inside = first <= 12 < first + len(pieces)
            assert (text, start) == (("the", 12 - first + 3) if is_inside else ("[CLS]", 0))
        else:
            assert text in ("cat ##s sat", "[CLS]")
    assert all(parts == set(range(len(whole))) for parts in seen.values())
    with pytest.raises(SettingsError, match="expected 8 or more"):
        ContextEncoder(tokenizer, 7)


def test_best_spans_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(4)
    offsets, seconds = np.array([0, 60, 66]), np.array([4, 5])
    scores = rng.normal(size=(66, 2)).astype(np.float32)
    (null, found), (_, nothing) = best_spans(scores, offsets, seconds, best=60, most=9)
    assert null == pytest.approx(scores[0].sum(), abs=1e-6)
    own = scores[4:59].astype(np.float64)
    pairs = [(own[i, 0] + own[j, 1], i, j) for i in range(55) for j in range(i, min(i + 9, 55))]
    assert found == sorted(pairs, reverse=True)[:60]
    assert nothing == []


def test_answerer_is_saved_and_measured(
    answerer: tuple[BertAnswerer, Path], base: Path, tmp_path: Path
) -> None:
    model, path = answerer
    pairs = list(zip(QUESTIONS, CONTEXTS, strict=True))
    loaded = fastseq.models.load(path, threads=1)
    assert isinstance(loaded, BertAnswerer)
    found = model.predict(pairs)
    assert loaded.predict(pairs) == found
    assert [loaded.predict([pair])[0] for pair in pairs] == found
    measures = model.evaluate(pairs, ANSWERS)
    assert loaded.evaluate(pairs, ANSWERS) == measures
    assert measures["exact_match"] == pytest.approx(np.mean([
        exact_match(a or "", b) for a, b in zip(found, ANSWERS, strict=True)
    ]))  # fmt: skip
    history = model.history_
    assert history is not None
    assert {"valid_f1", "valid_exact_match", "valid_loss"} <= set(history.columns)
    some = model.answer(*pairs[0], k=99)
    assert sum(each.probability for each in some) == pytest.approx(1)
    for each in some:
        assert each.text == (CONTEXTS[0][each.start : each.stop] if each.start >= 0 else None)
    null = next(each for each in some if each.text is None)
    others = [each for each in some if each.text is not None]
    assert [each.score for each in others] == sorted((e.score for e in others), reverse=True)
    for threshold, expected in ((-1e6, None), (1e6, others[0].text)):
        loaded.set_params(null_threshold=threshold)
        assert loaded.predict(pairs[:1]) == [expected]
    assert null.start == -1
    table = pa.table({"q": QUESTIONS, "c": CONTEXTS, "key": [1, 2, 3], "a": ANSWERS})
    (batch,) = model.predict_batches(table, text_column=["q", "c"], id_column="key", keep="a")
    names = ["id", "a", "prediction", "probability", "start", "stop"]
    assert batch.column_names == names
    assert batch["prediction"].to_pylist() == found
    assert model.evaluate(table, text_column=["q", "c"], label_column="a") == measures
    given = {"examples": pairs, "y": ANSWERS, "valid": (pairs, ANSWERS), "path": tmp_path / "model"}
    weights = model.learned.network.parameters.values
    check_resume(lambda: BertAnswerer(base=base, threads=1, **SETTINGS), given, weights)


def test_answers_as_squad_counts_them() -> None:
    assert exact_match("The  cat!", "a cat") == 1
    assert exact_match("cats", "cat") == 0
    assert word_f1("the black cat", "cat sat") == pytest.approx(0.5)
    assert word_f1("", "the") == 1
    assert word_f1("", "cat") == 0


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            {"answer": ["cat", "cat", "cat", "", None], "answer_start": [2, -1, None, 2, 2]},
            [[("cat", 2)], [], [], [], []],
        ),
        ({"answer": ["cat", None, ""]}, [[("cat", None)], [], []]),
        (
            {
                "answers": [
                    {"text": ["cat", "a"], "answer_start": [2, -1]},
                    {"text": ["cat"], "answer_start": None},
                    {"text": ["cat", ""], "answer_start": [None, 0]},
                    {"text": [], "answer_start": []},
                    None,
                ]
            },
            [[("cat", 2)], [("cat", None)], [], [], []],
        ),
        ({"answers": [{"text": ["cat"]}, {"text": []}]}, [[("cat", None)], []]),
        (
            {"answers": [[{"text": "cat", "answer_start": n}] for n in (2, -1, None)]},
            [[("cat", 2)], [], []],
        ),
        ({"answers": [[{"text": "cat"}], []]}, [[("cat", None)], []]),
    ],
)
def test_questions_without_an_answer(
    answers: dict[str, list[Any]], expected: list[list[tuple[str, int | None]]]
) -> None:
    rows = len(expected)
    table = pa.table({"question": ["the cat"] * rows, "context": ["a cat"] * rows, **answers})
    reader = open_rows(table, "text", text=("question", "context"), targets=False)
    (batch,) = with_answers(reader, None).batches()
    assert read_answers(batch) == expected


def test_answerer_names_bad_rows(base: Path) -> None:
    def fit(rows: Any, **more: Any) -> None:
        BertAnswerer(base=base, epochs=1).fit(rows, **more)

    row = {"question": "the cat", "context": "a cat", "answers": "a cat"}
    with pytest.raises(DataError, match=r"row 1 .*the answer 'dog' is not in its context"):
        fit([row, {**row, "answers": "dog"}])
    with pytest.raises(DataError, match="no column 'answers' or 'answer'"):
        fit([{"question": "a", "context": "b"}])
    with pytest.raises(DataError, match="no column 'question'"):
        fit([{"context": "b", "answers": "b"}])
    with pytest.raises(DataError, match=r"row 0 .*the answers in column 'answers' are 3"):
        fit([{**row, "answers": 3}])
    strings = {"question": "the cat", "context": "a cat", "answer": "a cat", "answer_start": 0}
    structs = [{"text": ["a", "cat"], "answer_start": [0, -2]}, [{"text": "a", "answer_start": -2}]]
    for bad in ({**strings, "answer_start": -2}, *({**row, "answers": each} for each in structs)):
        with pytest.raises(DataError, match=r"row 1 .*answer_start is -2, expected a place"):
            fit([{k: v for k, v in bad.items() if k in ("question", "context")}, bad])
    with pytest.raises(SettingsError, match="max_length is 7; expected 8 or more"):
        BertAnswerer(base=base, max_length=7).fit([row])


# ---- ranking

PASSAGES = ["the cat sat on the mat", "a dog ran", "the mat , a cat", "dogs ran on"]
RANKED = [
    {"query": "cat", "positive": "a cat sat", "negatives": ["a dog ran", "the mat"]},
    {"query": "dog", "positive": "dogs ran", "negatives": ["the cat"]},
    {"query": "cats on the mat", "positive": "cats , cats", "negatives": []},
    {"query": "dog on a mat", "positive": "the dog", "negatives": ["a cat", "the cat ran", "on"]},
]


@pytest.fixture(scope="module")
def reranker(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BertReranker, Path]:
    path = tmp_path_factory.mktemp("bert") / "model"
    model = BertReranker(base=base, threads=2, **SETTINGS)
    return model.fit(RANKED, valid=RANKED, path=path), path


def test_losses_of_pairs_and_lists_match_transformers(tmp_path: Path) -> None:
    pairs = list(zip(SPEC["short"], SPEC["second"], strict=True))
    settings = {"batch_size": len(pairs), "pooling": "cls"}
    model = golden_model("rerank", BertReranker, tmp_path / "pairs", **settings)
    model.fit(pairs, SPEC["labels"])
    check_losses("rerank", model)
    wanted = GOLDEN["rerank/outputs"][:, 0]
    np.testing.assert_allclose(model.predict(pairs), wanted, atol=1e-3)
    lists = golden_model("lists", BertReranker, tmp_path / "lists", **settings)
    lists.fit([
        {"query": query, "positive": texts[0], "negatives": texts[1:]}
        for query, texts in zip(SPEC["queries"], SPEC["texts"], strict=True)
    ])  # fmt: skip
    check_losses("lists", lists)
    wanted = GOLDEN["lists/outputs"][: len(SPEC["texts"][0]), 0]
    ranked = lists.rank(SPEC["queries"][0], SPEC["texts"][0])
    assert [number for number, _ in ranked] == np.argsort(-wanted).tolist()
    found = [score for _, score in sorted(ranked)]
    found -= np.mean(found)  # the loss does not depend on what is added to all scores
    np.testing.assert_allclose(found, wanted - wanted.mean(), atol=1e-3)


def test_reranker_is_saved_and_measured(
    reranker: tuple[BertReranker, Path], base: Path, tmp_path: Path
) -> None:
    model, path = reranker
    loaded = fastseq.models.load(path, threads=1)
    assert isinstance(loaded, BertReranker)
    ranked = model.rank("the cat", PASSAGES)
    assert loaded.rank("the cat", PASSAGES) == ranked
    assert loaded.rank("the cat", PASSAGES, 2) == ranked[:2]
    assert model.rank("the cat", []) == []
    for number, score in ranked:  # alone as in a batch
        assert model.predict([("the cat", PASSAGES[number])]).tolist() == [score]
    measures = model.evaluate(RANKED)
    assert loaded.evaluate(RANKED) == measures
    losses, best = [], []
    for row in RANKED:
        texts = [row["positive"], *row["negatives"]]
        scores = model.predict([(row["query"], text) for text in texts]).astype(np.float64)
        losses.append(np.log(np.exp(scores - scores[0]).sum()))
        best.append(scores[0] == scores.max())
    assert measures["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert measures["accuracy"] == np.mean(best)
    table = pa.table({"query": ["cat"] * 4, "passage": PASSAGES, "key": range(4)})
    named = {"text_column": ["query", "passage"], "id_column": "key"}
    (batch,) = loaded.predict_batches(table, **named)
    assert batch.column_names == ["id", "prediction"]
    pairs = [("cat", text) for text in PASSAGES]
    np.testing.assert_array_equal(batch["prediction"].to_numpy(), model.predict(pairs))
    given = {"examples": RANKED, "valid": RANKED, "path": tmp_path / "model"}
    weights = model.learned.network.parameters.values
    check_resume(lambda: BertReranker(base=base, threads=1, **SETTINGS), given, weights)
    labelled = BertReranker(base=base, **{**SETTINGS, "epochs": 1})
    labelled.fit(table.append_column("label", pa.array([1, 0, 1, 0])))
    assert labelled.evaluate(pairs, [1, 0, 1, 0]).keys() == {"loss", "accuracy"}


def test_reranker_names_bad_rows(base: Path) -> None:
    def fit(rows: Any, y: Any = None) -> None:
        BertReranker(base=base, epochs=1).fit(rows, y)

    with pytest.raises(DataError, match="no column 'passage'"):
        fit(pa.table({"query": ["a"], "label": [1]}))
    with pytest.raises(DataError, match="no column 'label'"):
        fit(pa.table({"query": ["a"], "passage": ["b"]}))
    with pytest.raises(DataError, match="the tokens column 'negatives' is string"):
        fit([{"query": "a", "positive": "b", "negatives": "c"}])
    with pytest.raises(DataError, match=r"row 1 .*a negative in column 'negatives' is null"):
        fit([RANKED[0], {**RANKED[1], "negatives": [None]}])
    with pytest.raises(DataError, match=r"row 0 \(from 0\): \('a',\), expected a pair"):
        fit([("a",)], [1])


# ---- vectors


def test_losses_of_vectors_match_transformers(tmp_path: Path) -> None:
    pairs = list(zip(SPEC["first"], SPEC["second"], strict=True))
    model = golden_model("embed", BertEmbedder, tmp_path / "base", "bert.", batch_size=len(pairs))
    model.fit(pairs)
    check_losses("embed", model)
    cosines = model.predict(SPEC["first"]) @ model.predict(SPEC["second"]).T
    np.testing.assert_allclose(cosines / 0.05, GOLDEN["embed/outputs"], atol=2e-3)
    found = model.evaluate(pairs)
    wanted = GOLDEN["embed/outputs"]
    assert found["accuracy"] == (wanted.argmax(1) == np.arange(len(pairs))).mean()
    exact = wanted - wanted.max(1, keepdims=True)
    losses = np.log(np.exp(exact).sum(1)) - exact.diagonal()
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-3)
    model.export(tmp_path / "encoder")
    encoder = TextEncoder.load(tmp_path / "encoder")
    np.testing.assert_array_equal(encoder.encode(SPEC["first"]), model.predict(SPEC["first"]))


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_vectors_are_saved_resumed_and_written(
    base: Path, tmp_path: Path, pooling: str
) -> None:
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))

    def make() -> BertModel:
        return BertEmbedder(base=base, threads=2, pooling=pooling, **SETTINGS)

    model = make().fit(pairs, valid=pairs, path=tmp_path / "whole")
    weights = model.learned.network.parameters.values
    check_resume(make, {"examples": pairs, "valid": pairs, "path": tmp_path / "m"}, weights)
    loaded = BertEmbedder.load(tmp_path / "whole")
    np.testing.assert_array_equal(loaded.predict(TEXTS), model.predict(TEXTS))
    table = pa.table({"id": [1, 2, 3], "text": ["a cat", "", None]})
    predictions = loaded.predict_batches(table)
    (found,) = [batch.to_pydict() for batch in predictions]
    assert found["id"] == [1, 2, 3]
    assert found["vector"][0] == model.predict(["a cat"])[0].tolist()
    assert found["vector"][1:] == [None, None]
    report = loaded.report_["data"]
    assert (report.rows, report.empty, report.units, report.ends) == (3, 2, 4, 2)
    assert report.messages() == ["2 of 3 texts are empty: read as null"]
    with pytest.warns(FastseqWarning, match="2 texts of 3 without a token"):
        vectors = loaded.predict(table["text"])
    assert vectors[0].any()
    assert not vectors[1:].any()
    messages = loaded.report_["data"].messages()
    assert messages == ["2 of 3 texts are empty: read as a vector of zeros"]
    with pytest.raises(DataError, match=r"text 1 \(from 0\) is missing"):
        loaded.predict(["a cat", None])
    loaded.evaluate(pairs)
    assert loaded.report_["data"].rows == len(pairs)
    with pytest.raises(DataError, match="expected a pair of texts"):
        make().fit(TEXTS)


def test_measures_of_vectors_do_not_depend_on_parts(base: Path, tmp_path: Path) -> None:
    pairs = [(TEXTS[n % 8], TEXTS[(3 * n + 1) % 8]) for n in range(40)]
    model = BertEmbedder(base=base, threads=1, **SETTINGS | {"batch_size": 16, "epochs": 1})
    model.fit(pairs)
    paths = []
    for part in range(5):
        some = pairs[8 * part : 8 * part + 8]
        path = tmp_path / f"{part}.parquet"
        pq.write_table(pa.table({"a": [a for a, _ in some], "b": [b for _, b in some]}), path)
        paths.append(path)
    assert model.evaluate(paths) == pytest.approx(model.evaluate(pairs))
    index = fastseq.Index.build(
        pa.table({"text": TEXTS}), tmp_path / "index", dense=model.encoder()
    )
    assert index.search_dense(["cat"], 1, encoder=model.encoder()).ids[0]


def test_labels_and_scores_that_do_not_fit(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1.* label 5, expected a number from 0 to 1"):
        BertReranker(base=base, **SETTINGS).fit([("a", "b"), ("c", "d")], [0.5, 5.0])
    index = fastseq.Index.build(pa.table({"text": TEXTS}), tmp_path / "index")
    hits = index.search("cat", 5)
    for wrong in ([1.0], [[1.0]], [float("nan")] * 9):
        with pytest.raises(DataError, match="expected a number for each"):
            hits.rerank(lambda query, texts, wrong=wrong: wrong[: len(texts) + 9])


def test_scores_of_search_and_of_a_model_are_added(tmp_path: Path) -> None:
    texts = ["cat", "cat cat dog", "cat dog mat"]
    hits = fastseq.Index.build(pa.table({"text": texts}), tmp_path / "index").search("cat", 3)
    given = {"cat": 3.0, "cat cat dog": 7.0, "cat dog mat": 4.0}
    found = hits.rerank(lambda query, some: [given[text] for text in some], 2, weight=0.25)
    low, high = hits.scores[0].min(), hits.scores[0].max()
    expected = {
        row: 0.25 * (given[texts[row]] - 3) / 4 + 0.75 * (score - low) / (high - low)
        for row, score in zip(hits.rows[0].tolist(), hits.scores[0].tolist(), strict=True)
    }
    best = sorted(expected, key=lambda row: -expected[row])[:2]
    assert found.rows[0].tolist() == best
    assert found.scores[0] == pytest.approx([expected[row] for row in best], rel=1e-6)
    with pytest.raises(SettingsError, match="weight"):
        hits.rerank(lambda query, some: [1.0] * len(some), weight=1.5)
