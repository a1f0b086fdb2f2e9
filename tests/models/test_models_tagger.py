"""SequenceTagger: training, prediction, span scores, tag schemes, errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq.errors import DataError, NotFittedError, SettingsError
from fastseq.models.data.batches import take
from fastseq.models.metrics import SpanCounts, TagScheme
from fastseq.models.tagger import SequenceTagger
from fastseq.nn.crf import bio_constraints
from fastseq.store import sources
from fastseq.store.folder import MANIFEST, read_manifest
from fastseq.store.in_memory import as_source
from fastseq.store.rows import RowReader, open_rows
from tests.models.small_data import PEOPLE, VERBS, assert_gradients, sentences, write
from tests.models.tag_lists import counted, span_f1, violation
from tests.naive import spans as naive

SMALL: dict[str, Any] = {
    "hidden": 8,
    "embedding": 8,
    "char_embedding": 6,
    "char_hidden": 5,
    "dropout": 0.0,
    "batch_size": 8,
    "threads": 1,
}
FAST: dict[str, Any] = {**SMALL, "learning_rate": 0.02, "epochs": 5, "bidirectional": True}

ROWS, TAGS = sentences(100)
TEST, EXPECTED = sentences(30, seed=1)
KINDS = [{}, {"chars": True}, {"crf": True}, {"chars": True, "crf": True}]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "+".join(kind) or "words")
def fitted(request: pytest.FixtureRequest) -> SequenceTagger:
    return SequenceTagger(**FAST, **request.param).fit(ROWS, TAGS)


@pytest.fixture(scope="module")
def plain() -> SequenceTagger:
    return SequenceTagger(**FAST).fit(ROWS, TAGS)


def test_prediction_methods_agree(fitted: SequenceTagger, tmp_path: Path) -> None:
    measures = fitted.evaluate(TEST, EXPECTED)
    assert measures["accuracy"] >= 0.97
    found = fitted.predict(TEST)
    assert [len(tags) for tags in found] == [len(row) for row in TEST]
    pairs = [
        (a, b) for x, y in zip(found, EXPECTED, strict=True) for a, b in zip(x, y, strict=True)
    ]
    assert measures["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert fitted.score(TEST, EXPECTED) == measures["accuracy"]
    expected = span_f1(EXPECTED, found)
    assert (measures["precision"], measures["recall"], measures["f1"]) == tuple(expected)[:3]
    assert measures["strict_f1"] == span_f1(EXPECTED, found, strict=True).f1
    assert fitted.span_scores_ == counted(EXPECTED, found).by_type()
    assert fitted.strict_span_scores_ == counted(EXPECTED, found).by_type(strict=True)
    for row in (0, 11, 29):  # alone as in company
        assert fitted.predict([TEST[row]]) == [found[row]]
    data = write(tmp_path / "d.parquet", doc_id=[f"r{i}" for i in range(30)], tokens=TEST)
    out = tmp_path / "out.parquet"
    assert fitted.predict_file(data, out, keep=["tokens"]) == 30
    table = pq.read_table(out)
    assert table.schema.names == ["id", "tokens", "prediction"]
    assert table["prediction"].to_pylist() == found
    assert table["id"].to_pylist() == [f"r{i}" for i in range(30)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "words")
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradients_match_finite_differences(kind: dict[str, bool], cell: str) -> None:
    settings = {**FAST, "epochs": 1, "learning_rate": 0.005, "dropout": 0.2}
    model = SequenceTagger(**settings, **kind, cell=cell, layers=2)
    model.fit(ROWS, TAGS)
    network = model.learned.network
    reader = open_rows(as_source(ROWS[:6], TAGS[:6], "tokens"), "tokens")
    batch = take(model.learned.encoder.read(reader), np.arange(6))
    prefixes = {name.rpartition(".")[0] for name in network.parameters}
    expected = {"embedding", cell, "output"}
    expected |= {"characters.embedding", f"characters.{cell}"} if "chars" in kind else set()
    assert prefixes == expected | ({"crf"} if "crf" in kind else set())

    def loss(training: bool = False) -> float:
        scores = network.scores(batch, True, 3)
        return network.loss(scores, batch, training)[0]

    def learn() -> None:
        loss(True)
        network.backward()

    assert_gradients(network.parameters, loss, learn)


def test_characters_distinguish_unknown_words() -> None:
    rng = np.random.default_rng(3)
    stems = ["".join(rng.choice(list("bdfgklmnprst"), 4)) for _ in range(300)]
    rows = [[stem + ("ing" if i % 2 else "ed")] for i, stem in enumerate(stems)]
    tags = [["GERUND" if i % 2 else "PAST"] for i in range(300)]
    model = SequenceTagger(**FAST, chars=True).fit(rows[:200], tags[:200])
    assert model.score(rows[200:], tags[200:]) == 1.0
    blind = SequenceTagger(**FAST).fit(rows[:200], tags[:200])
    assert blind.score(rows[200:], tags[200:]) == 0.5, "every word is unknown to it"


def test_bio_constraints_hold_at_prediction() -> None:
    # after too little training for the scores to know what may follow what
    model = SequenceTagger(**{**FAST, "epochs": 1, "learning_rate": 1e-4}, crf=True)
    model.fit(ROWS, TAGS)
    network = model.learned.network
    assert network.crf is not None
    network.output.values["bias"][model.classes_.tolist().index("I-PER")] = 5.0
    found = model.predict(TEST)
    assert any("I-PER" in tags for tags in found)
    for tags in found:
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert tag != "I-PER" or before in ("B-PER", "I-PER")
    network.constraints = None
    assert any(tags[0] == "I-PER" for tags in model.predict(TEST))


def test_training_data_that_break_bio_have_a_finite_loss() -> None:
    rows, tags = [["a", "b"], ["b", "a"]] * 8, [["O", "I-X"], ["B-X", "O"]] * 8
    model = SequenceTagger(**FAST, crf=True).fit(rows, tags)
    assert model.history_ is not None
    assert max(model.history_.columns["train_loss"]) < 10


def test_tags_and_tokens_of_different_lengths(tmp_path: Path) -> None:
    data = write(
        tmp_path / "d.parquet",
        tokens=[["a"], ["b", "c"], ["d"]],
        tags=[["X"], ["Y"], ["X"]],
    )
    wrong = r"d\.parquet: row 1 .*2 tokens in column 'tokens', but 1 tags in 'tags'"
    with pytest.raises(DataError, match=wrong):
        SequenceTagger(**FAST).fit(data)
    model = SequenceTagger(**FAST).fit(ROWS, TAGS)
    with pytest.raises(DataError, match=wrong):
        model.evaluate(data)
    assert len(model.predict(data)) == 3, "predicting reads no tags"
    with pytest.raises(DataError, match="2 lists of tokens, but 1 lists of tags"):
        SequenceTagger(**FAST).fit([["a"], ["b"]], [["X"]])


def test_columns_can_be_named(tmp_path: Path, plain: SequenceTagger) -> None:
    text = write(tmp_path / "text.parquet", tokens=["a b", "c"], tags=[["X", "Y"], ["X"]])
    with pytest.raises(DataError, match="the tokens column 'tokens' is string, expected lists"):
        SequenceTagger(**FAST).fit(text)
    none = write(tmp_path / "none.parquet", tokens=ROWS)
    with pytest.raises(DataError, match=r"none\.parquet: cannot tell which column is the tags"):
        SequenceTagger(**FAST).fit(none)
    null = write(tmp_path / "null.parquet", tokens=[["a", None], ["b"]], tags=[["X", "Y"], ["X"]])
    with pytest.raises(DataError, match=r"null\.parquet: row 0 .*null"):
        SequenceTagger(**FAST).fit(null)
    named = write(tmp_path / "named.parquet", words=TEST, pos=EXPECTED)
    with pytest.raises(DataError, match="no column 'tokens'"):
        plain.evaluate(named)
    measures = plain.evaluate(named, tokens_column="words", tags_column="pos")
    assert measures == plain.evaluate(TEST, EXPECTED)
    valid = write(tmp_path / "valid.parquet", tokens=TEST, labels=EXPECTED)
    with pytest.raises(DataError, match=r"valid\.parquet: no column 'tags'"):
        SequenceTagger(**FAST).fit(
            write(tmp_path / "t.parquet", tokens=ROWS, tags=TAGS), valid=valid
        )


@pytest.mark.parametrize("crf", [False, True])
def test_unseen_tags_count_as_wrong(crf: bool) -> None:
    rows, tags = [*TEST, ["the", "dog"]], [*EXPECTED, ["O", "B-ORG"]]
    model = SequenceTagger(**FAST, crf=crf).fit(ROWS, TAGS, valid=(rows, tags))
    count = sum(map(len, rows))
    measures = model.evaluate(rows, tags)
    right = sum(
        a == b
        for x, y in zip(model.predict(rows), tags, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    assert measures["accuracy"] == pytest.approx(right / count)
    assert right < count
    model.evaluate(rows, tags)
    for part in ("validation", "data"):
        assert model.report_[part].unseen == {"B-ORG": 1}
        assert f"1 of {count} tokens have a tag" in model.report_[part].messages()[-1]
    assert measures["recall"] < 1, "the unseen span is missed"
    assert np.isfinite(measures["loss"])
    with pytest.raises(DataError, match="every tag is unseen in training"):
        model.evaluate([["a"]], [["NEW"]])


def test_rows_without_tokens(plain: SequenceTagger, tmp_path: Path) -> None:
    expected = plain.predict([TEST[0]])[0]
    found = plain.predict([[], TEST[0], []])
    assert found == [[], expected, []]
    assert plain.report_["data"].skipped == 2
    table = pa.table({"tokens": pa.array([TEST[0], None, []], pa.list_(pa.string()))})
    out = tmp_path / "out.parquet"
    assert plain.predict_file(table, out) == 3
    assert pq.read_table(out)["prediction"].to_pylist() == [found[1], [], []]
    measures = plain.evaluate([[], *TEST], [[], *EXPECTED])
    assert measures == pytest.approx(plain.evaluate(TEST, EXPECTED))
    assert plain.predict([]) == []
    with pytest.raises(DataError, match="no rows to learn from"):
        SequenceTagger(**FAST).fit([[], []], [[], []])


def test_one_tag_only() -> None:
    with pytest.raises(DataError, match="a single tag, 'O', in 3 tokens"):
        SequenceTagger(**FAST).fit([["a", "b"], ["c"]], [["O", "O"], ["O"]])


def test_no_span_scores_where_tags_encode_no_spans() -> None:
    model = SequenceTagger(**FAST).fit([["a", "b"]] * 4, [["X", "Y"]] * 4)
    found = model.evaluate([["a"]], [["X"]])
    assert set(found) == {"accuracy", "macro_f1", "loss", "unknown_rate"}
    assert model.tag_scheme_ == "none"
    assert model.span_scores_ == {}


def test_lowercase_setting() -> None:
    rows, tags = [["Apple"], ["apple"]] * 20, [["NAME"], ["FRUIT"]] * 20
    lowered = SequenceTagger(**FAST).fit(rows, tags)
    assert len(lowered.vocabulary_) == 2
    assert lowered.score(rows, tags) == 0.5
    written = SequenceTagger(**FAST, lowercase=False).fit(rows, tags)
    assert written.score(rows, tags) == 1.0
    spelt = SequenceTagger(**FAST, chars=True).fit(rows, tags)
    assert spelt.score(rows, tags) == 1.0, "characters keep their case"


def test_wrong_settings_are_rejected() -> None:
    for unit in ("char", "byte"):
        with pytest.raises(SettingsError, match="expected one of word, space"):
            SequenceTagger(**FAST, unit=unit).fit(ROWS, TAGS)
    with pytest.raises(SettingsError, match="char_hidden must be"):
        SequenceTagger(**{**FAST, "char_hidden": 0}).fit(ROWS, TAGS)
    with pytest.raises(NotFittedError, match="SequenceTagger is not fitted"):
        SequenceTagger().predict(TEST)


def test_spans_are_counted_batch_after_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SequenceTagger(**{**FAST, "epochs": 2}).fit(ROWS, TAGS)
    whole = model.evaluate(TEST, EXPECTED)
    batches, add = RowReader.batches, SpanCounts.add
    sizes: list[int] = []

    def counted(self: SpanCounts, tags: Any, expected: Any, predicted: Any, offsets: Any) -> None:
        sizes.append(len(offsets) - 1)
        add(self, tags, expected, predicted, offsets)

    monkeypatch.setattr(sources, "MAX_ROWS", 7)
    monkeypatch.setattr(RowReader, "batches", lambda self: batches(self, 64))
    monkeypatch.setattr(SpanCounts, "add", counted)
    assert model.evaluate(TEST, EXPECTED) == pytest.approx(whole)
    assert sum(sizes) == len(TEST)
    assert max(sizes) <= 7


def test_constraints_hold_for_predictions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are an argument of decoding: the layer has none, as another thread's loss requires."""
    rows, tags = sentences(60)
    model = SequenceTagger(**{**SMALL, "crf": True, "epochs": 1}).fit(rows, tags)
    crf = model.learned.network.crf
    assert crf is not None
    decode, own, told = crf.decode, [], []

    def recorder(scores: Any, offsets: Any, constraints: Any = None) -> Any:
        own.append(crf.constraints)
        told.append(constraints)
        return decode(scores, offsets, constraints)

    monkeypatch.setattr(crf, "decode", recorder)
    model.predict(rows)
    assert own == [None]
    assert told == [model.learned.network.constraints] != [None]


# ---- tag schemes


def in_scheme(scheme: str, count: int, seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """People of one to three tokens, some next to each other, in a tag scheme."""
    rng = np.random.default_rng(seed)
    rows, tags = [], []
    for _ in range(count):
        row: list[str] = []
        people: naive.Spans = []
        for _ in range(int(rng.integers(1, 4))):
            name = [*["Dr", "Prof"][: rng.integers(0, 3)], str(rng.choice(PEOPLE))]
            kind = "LOC" if name[-1] == PEOPLE[0] else "PER"
            people.append((len(row), len(row) + len(name), kind))
            row += name
            if rng.random() < 0.5:
                row.append(str(rng.choice(VERBS)))
        rows.append(row)
        tags.append(naive.encoded(people, len(row), scheme))
    return rows, tags


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU", "BMES"])
def test_crf_learns_spans_in_every_scheme(scheme: str, tmp_path: Path) -> None:
    rows, tags = in_scheme(scheme, 150)
    test, expected = in_scheme(scheme, 60, seed=1)
    model = SequenceTagger(**{**FAST, "epochs": 10}, crf=True)
    model.fit(rows, tags, valid=(test, expected))
    assert model.tag_scheme_ == scheme
    found = model.predict(test)
    assert not any(violation(row, TagScheme(scheme)) for row in found)
    measures = model.evaluate(test, expected)
    assert measures["f1"] > 0.9
    for strict, prefix in ((False, ""), (True, "strict_")):
        three = span_f1(expected, found, TagScheme(scheme), strict)[:3]
        assert tuple(measures[prefix + n] for n in ("precision", "recall", "f1")) == three
    assert {kind: score.support for kind, score in model.span_scores_.items()}.keys() == {
        "LOC",
        "PER",
    }
    assert model.history_ is not None
    last = {name: values[-1] for name, values in model.history_.columns.items()}
    best = max(model.history_.columns["valid_accuracy"])
    if last["valid_accuracy"] == best:
        assert last["valid_f1"] == pytest.approx(measures["f1"])
        assert last["valid_macro_f1"] == pytest.approx(measures["macro_f1"])
    model.save(tmp_path / "model")
    back = SequenceTagger.load(tmp_path / "model", threads=1)
    assert back.tag_scheme_ == scheme
    assert back.predict(test) == found
    assert back.evaluate(test, expected) == measures


def test_word_segmentation() -> None:
    """Bare B, M, E and S: each character is a token."""
    words = ["ab", "c", "dbe", "cabd"]
    rng = np.random.default_rng(0)
    rows, tags = [], []
    for _ in range(80):
        some = rng.choice(words, 3).tolist()
        rows.append([*"".join(some)])
        tags.append([x for w in some for x in ("S" if len(w) == 1 else f"B{'M' * (len(w) - 2)}E")])
    model = SequenceTagger(**FAST, crf=True).fit(rows, tags)
    assert model.tag_scheme_ == "BMES"
    found = model.predict(rows)
    assert not any(violation(row, TagScheme("BMES")) for row in found)
    assert model.evaluate(rows, tags)["f1"] > 0.9
    assert set(model.span_scores_) == {""}


def test_constraints_of_iob2_forbid_what_iob1_contains() -> None:
    """With them, as `crf` once had on CoNLL-2003's own files, I-PER cannot begin a span."""
    rows, tags = in_scheme("IOB1", 150)
    test, expected = in_scheme("IOB1", 60, seed=1)
    model = SequenceTagger(**{**FAST, "epochs": 10}, crf=True).fit(rows, tags)
    reachable = model.evaluate(test, expected)
    model.learned.network.constraints = bio_constraints(model.classes_.tolist())
    limited = model.evaluate(test, expected)
    assert limited["f1"] < 0.8 < 0.9 < reachable["f1"]
    assert limited["accuracy"] < 0.7 < 0.9 < reachable["accuracy"]


@pytest.mark.parametrize("scheme", ["IOB2", "BIOES"])
def test_training_tags_that_violate_the_scheme_are_counted(scheme: str, tmp_path: Path) -> None:
    rows, tags = in_scheme(scheme, 20)
    first = write(tmp_path / "first.parquet", tokens=rows, tags=tags)
    wrong = [["O", "I-PER"], ["I-LOC", "I-PER"]]
    second = write(tmp_path / "second.parquet", tokens=[["runs", "Bob"]] * 2, tags=wrong)
    model = SequenceTagger(**FAST, crf=True).fit([first, second], valid=second)
    assert model.tag_scheme_ == scheme
    example = rf"the tag scheme {scheme}, such as \S*second\.parquet: row 0 .*: 'I-PER' after 'O'"
    for part, of in (("training", 22), ("validation", 2)):
        report = model.report_[part]
        assert report.malformed == 2
        said = rf"the tags of 2 of {of} rows violate {example}"
        assert any(re.fullmatch(said, line) for line in report.messages())
    assert model.history_ is not None
    assert max(model.history_.columns["train_loss"]) < 10, "they are not trained as impossible"
    measures = model.evaluate([second, first])
    assert model.report_["data"].malformed == 2
    assert np.isfinite(measures["loss"])
    model.evaluate(first)
    assert model.report_["data"].malformed == 0


def test_the_loss_of_tags_that_violate_the_scheme_is_that_of_all_paths() -> None:
    """The likelihood is normalised over all tag sequences: it equals that without a scheme."""
    rows, tags = in_scheme("IOB2", 30)
    rows, tags = [*rows, ["runs", "Bob"]], [*tags, ["O", "I-PER"]]
    one = SequenceTagger(**FAST, crf=True).fit(rows, tags)
    other = SequenceTagger(**FAST, crf=True, tag_scheme="none").fit(rows, tags)
    assert one.history_ is not None
    assert other.history_ is not None
    assert one.history_.columns["train_loss"] == other.history_.columns["train_loss"]
    assert other.tag_scheme_ == "none"
    assert "f1" not in other.evaluate(rows, tags)


def test_named_scheme_is_used() -> None:
    rows, tags = in_scheme("IOB2", 40)
    model = SequenceTagger(**{**FAST, "epochs": 1}, crf=True, tag_scheme="iob1").fit(rows, tags)
    assert model.tag_scheme_ == "IOB1"
    assert model.report_["training"].malformed == 40
    with pytest.raises(SettingsError, match="tag_scheme is BMES, but 'I-LOC' is among"):
        SequenceTagger(**FAST, tag_scheme="BMES").fit(rows, tags)
    with pytest.raises(SettingsError, match="tag_scheme is 'BIO'; expected one of auto, IOB1"):
        SequenceTagger(**FAST, tag_scheme="BIO").fit(rows, tags)


def test_the_best_epoch_by_f1_of_spans_or_macro_f1() -> None:
    rows, tags = in_scheme("IOB1", 60)
    test, expected = in_scheme("IOB1", 30, seed=1)
    for monitor in ("f1", "macro_f1"):
        model = SequenceTagger(**{**FAST, "epochs": 3}, monitor=monitor)
        model.fit(rows, tags, valid=(test, expected))
        assert model.history_ is not None
        best = max(model.history_.columns[f"valid_{monitor}"])
        assert model.evaluate(test, expected)[monitor] == pytest.approx(best)
    with pytest.raises(SettingsError, match="monitor is 'f1', but the tags encode no spans"):
        SequenceTagger(**FAST, monitor="f1").fit([["a", "b"]] * 4, [["X", "Y"]] * 4, valid=(
            [["a"]], [["X"]]))  # fmt: skip


def test_spans_of_unseen_tags_are_expected_in_validation_too() -> None:
    """B-ORG, I-ORG and B-MISC did not occur in training: two spans are missed."""
    rows, tags = in_scheme("IOB2", 60)
    test, expected = in_scheme("IOB2", 20, seed=1)
    test, expected = [*test, ["a", "b", "c"]], [*expected, ["B-ORG", "I-ORG", "B-MISC"]]
    model = SequenceTagger(**{**FAST, "epochs": 1}).fit(rows, tags, valid=(test, expected))
    measures = model.evaluate(test, expected)
    assert measures["recall"] == span_f1(expected, model.predict(test)).recall
    assert {"ORG", "MISC"} < set(model.span_scores_)
    assert model.history_ is not None
    assert model.history_.columns["valid_f1"] == [pytest.approx(measures["f1"])]
    assert model.history_.columns["valid_macro_f1"] == [pytest.approx(measures["macro_f1"])]


def test_unknown_tokens_are_reported(plain: SequenceTagger) -> None:
    known = plain.evaluate([["Dr", "Ann"]], [["B-PER", "I-PER"]])
    assert known["unknown_rate"] == 0
    half = plain.evaluate([["Dr", "Zebedee"]], [["B-PER", "I-PER"]])
    assert half["unknown_rate"] == 0.5


def test_models_saved_without_a_scheme_keep_their_constraints(tmp_path: Path) -> None:
    """Those of IOB2, as in the version that wrote them: predictions stay the same."""
    rows, tags = in_scheme("BIOES", 40)
    model = SequenceTagger(**{**FAST, "epochs": 1, "learning_rate": 1e-3}, crf=True)
    model.fit(rows, tags).save(tmp_path / "model")
    manifest = read_manifest(tmp_path / "model")
    del manifest.settings["settings"]["tag_scheme"]
    del manifest.statistics["tag_scheme"]
    (tmp_path / "model" / MANIFEST).write_bytes(manifest.to_bytes())
    back = SequenceTagger.load(tmp_path / "model", threads=1)
    model.learned.network.constraints = bio_constraints(model.classes_.tolist())
    assert back.predict(rows) == model.predict(rows)
    assert back.tag_scheme == "auto"
    assert back.tag_scheme_ == "BIOES"
    assert back.evaluate(rows, tags) == model.evaluate(rows, tags)
