"""Vectors of texts by a BERT checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq import Index
from fastseq.errors import DataError, FastseqWarning, FormatError, SettingsError
from fastseq.models.bert.encoding import TextEncoder, TokenVectors, to_int8
from fastseq.nn import precisions
from fastseq.store import texts as texts_store
from fastseq.store.rows import Corpus
from tests.bert_checkpoints import CONFIG, PIECES, hidden_of, weights_of, write_checkpoint

CLS, SEP = PIECES.index("[CLS]"), PIECES.index("[SEP]")


def ids_of(text: str) -> list[int]:
    """Of words that are pieces."""
    return [CLS, *(PIECES.index(word) for word in text.split()), SEP]


def test_vectors_are_those_of_the_definition(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat .", "a", "the dog ran , the cat sat . a dog ran"]
    for activation in ("gelu", "gelu_new"):
        config = {**CONFIG, "hidden_act": activation}
        weights = write_checkpoint(tmp_path / activation, config)
        hidden = hidden_of(config, weights, [ids_of(text) for text in texts])
        pools = {"mean": np.mean, "max": np.max, "cls": lambda rows, axis: rows[0]}
        for pooling, pool in pools.items():
            encoder = TextEncoder.load(tmp_path / activation, pooling=pooling)
            expected = np.array([pool(rows, axis=0) for rows in hidden])
            np.testing.assert_allclose(encoder.encode(texts), expected, rtol=0, atol=2e-5)
    encoder = TextEncoder.load(tmp_path / "gelu", normalize=True)
    norms = np.linalg.norm(encoder.encode(texts), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)


def test_a_text_has_the_same_bits_in_any_batch_and_on_any_number_of_threads(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", {**CONFIG, "max_position_embeddings": 512})
    rng = np.random.default_rng(3)
    words = [piece for piece in PIECES[5:] if piece[0] != "#"]
    texts = [" ".join(rng.choice(words, rng.integers(1, 200))) for _ in range(60)]
    one = TextEncoder.load(tmp_path / "m", threads=1, normalize=True)
    alone = np.array([one.encode(text) for text in texts])
    for threads in (1, 2, 3):
        encoder = TextEncoder.load(tmp_path / "m", threads=threads, normalize=True)
        np.testing.assert_array_equal(encoder.encode(texts), alone)
        np.testing.assert_array_equal(encoder.encode(texts[::-1])[::-1], alone)


@pytest.mark.filterwarnings("ignore:this CPU has no instructions")
def test_other_precisions(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", {**CONFIG, "max_position_embeddings": 512})
    rng = np.random.default_rng(3)
    words = [piece for piece in PIECES[5:] if piece[0] != "#"]
    texts = [" ".join(rng.choice(words, n)) for n in (1, 30, 5, 300, 9)]
    exact = TextEncoder.load(tmp_path / "m", normalize=True).encode(texts)
    for precision, least in (("bfloat16", 0.9995), ("int8", 0.995)):
        encoder = TextEncoder.load(tmp_path / "m", normalize=True, precision=precision, threads=2)
        found = encoder.encode(texts)
        cosines = (found * exact).sum(1)
        assert cosines.min() >= least
        assert (found != exact).any()
        alone = np.array([encoder.encode(text) for text in texts])
        np.testing.assert_array_equal(found, alone)
    with pytest.raises(SettingsError, match="precision"):
        TextEncoder.load(tmp_path / "m", precision="int4")


def test_a_precision_without_instructions_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "m")
    monkeypatch.setattr(precisions, "WORD_INSTRUCTIONS", frozenset({"bfloat16"}))
    TextEncoder.load(tmp_path / "m", precision="bfloat16")
    with pytest.warns(FastseqWarning, match="no instructions for int8"):
        TextEncoder.load(tmp_path / "m", precision="int8")


def test_settings_of_sentence_transformers(tmp_path: Path) -> None:
    write_checkpoint(
        tmp_path / "m", pooling="cls", limit=7, prompts={"query": "the cat ", "passage": "a "}
    )
    encoder = TextEncoder.load(tmp_path / "m")
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("cls", True, 7)
    vector = encoder.encode("sat on", prompt="query")
    np.testing.assert_array_equal(vector, encoder.encode("the cat sat on"))
    np.testing.assert_array_equal(encoder.encode("sat on", prompt="the cat "), vector)
    assert np.linalg.norm(vector) == pytest.approx(1)
    given = {"prompts": {"passage": "a "}, "default_prompt_name": "passage"}
    (tmp_path / "m" / "config_sentence_transformers.json").write_text(json.dumps(given))
    default = TextEncoder.load(tmp_path / "m")
    np.testing.assert_array_equal(default.encode("sat on"), encoder.encode("a sat on"))
    np.testing.assert_array_equal(default.encode("sat on", prompt=""), encoder.encode("sat on"))
    # the default where queries and documents have no prompt of their own
    for method in (default.encode_query, encoder.encode_document):
        np.testing.assert_array_equal(method("sat on"), encoder.encode("a sat on"))
    given = {"prompts": {"find": "the ", "corpus": "a "}, "default_prompt_name": "find"}
    (tmp_path / "m" / "config_sentence_transformers.json").write_text(json.dumps(given))
    both = TextEncoder.load(tmp_path / "m")
    np.testing.assert_array_equal(both.encode_query("sat on"), encoder.encode("the sat on"))
    np.testing.assert_array_equal(both.encode_document("sat on"), encoder.encode("a sat on"))
    # a text without a token has no vector whatever the prompt
    assert not both.encode_document(["", " \t", "\x00"]).any()
    with pytest.raises(SettingsError, match=r"prompt has 7 tokens.*, and a text 7 at most"):
        encoder.encode("cat", prompt="the cat sat on the")
    plain = TextEncoder.load(tmp_path / "m", normalize=False, pooling="mean", max_length=9)
    assert (plain.pooling, plain.normalize, plain.max_length) == ("mean", False, 9)


def test_digest_is_of_what_vectors_depend_on(tmp_path: Path) -> None:
    def digest(name: str, config: dict[str, object] = CONFIG, **more: object) -> str:
        write_checkpoint(tmp_path / name, config, pooling="mean", limit=8)
        for file, content in more.items():
            (tmp_path / name / f"{file}.json").write_text(json.dumps(content))
        return TextEncoder.load(tmp_path / name).digest

    prompts = {"prompts": {"query": "the "}}
    digests = [
        digest("plain"), digest("heads", {**CONFIG, "num_attention_heads": 4}),
        digest("activation", {**CONFIG, "hidden_act": "gelu_new"}),
        digest("epsilon", {**CONFIG, "layer_norm_eps": 1e-5}),
        digest("case", tokenizer_config={"do_lower_case": False}),
        digest("prompts", config_sentence_transformers=prompts),
        digest("default", config_sentence_transformers={**prompts, "default_prompt_name": "query"}),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert digest("dropout", {**CONFIG, "hidden_dropout_prob": 0.0}) == digests[0]
    plain = tmp_path / "plain"
    assert TextEncoder.load(plain, max_length=5).digest == digests[0]
    assert TextEncoder.load(plain, pooling="max").digest not in digests


def test_texts_beyond_the_limit(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m")
    encoder = TextEncoder.load(tmp_path / "m", max_length=6)
    long = "the cat sat on the mat . a dog"  # windows of 4, 4 and 1 tokens
    texts = ["the dog", long, "", "a cat"]
    with pytest.warns(FastseqWarning) as notices:
        vectors = encoder.encode(texts)
    assert [str(notice.message) for notice in notices] == [
        "1 text of 4 without a token", "1 text of 4 with more than 6 tokens was truncated",
    ]  # fmt: skip
    assert (encoder.report.truncated, encoder.report.empty, encoder.report.tokens) == (1, 1, 14)
    np.testing.assert_array_equal(vectors[1], encoder.encode("the cat sat on"))
    assert not vectors[2].any()
    with pytest.warns(FastseqWarning, match="was split into windows"):
        vectors = encoder.encode([*texts[:2], *texts[3:]], on_truncate="split")
    parts = encoder.encode(["the cat sat on", "the mat . a", "dog"])
    np.testing.assert_allclose(
        vectors[1], np.average(parts, axis=0, weights=[4, 4, 1]), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(vectors[0], encoder.encode("the dog"))
    np.testing.assert_array_equal(vectors[2], encoder.encode("a cat"))
    two = "the cat sat on the"
    with pytest.warns(FastseqWarning):  # as many windows as texts
        vectors = encoder.encode(["", two], on_truncate="split")
    assert not vectors[0].any()
    parts = encoder.encode(["the cat sat on", "the"])
    np.testing.assert_allclose(vectors[1], parts[0] * 0.8 + parts[1] * 0.2, rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match=r"row 1 .*11 tokens, the model takes 6"):
        encoder.encode(texts, on_truncate="error")


def test_vectors_that_are_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_of(CONFIG)
    weights["embeddings.word_embeddings.weight"][PIECES.index("mat")] = np.nan
    write_checkpoint(tmp_path / "nan", weights=weights)
    large = weights_of(CONFIG)
    large["encoder.layer.1.output.LayerNorm.weight"] *= 1e5
    write_checkpoint(tmp_path / "large", weights=large)
    spoilt, encoder = (TextEncoder.load(tmp_path / name) for name in ("nan", "large"))
    monkeypatch.setattr(texts_store, "SLICE_BYTES", 4)  # rows count over slices
    with pytest.raises(DataError, match=r"row 2 \(from 0\): its vector has a number that is not f"):
        spoilt.encode(["a cat", "the dog", "mat"])
    pq.write_table(pa.table({"text": ["", "a cat", "mat"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet: row 2 .* not finite"):
        list(spoilt.predict_batches(Corpus.open(tmp_path / "t.parquet")))
    with pytest.raises(DataError, match=r"t.parquet: row 2 .* not finite"):
        Index.build(tmp_path / "t.parquet", tmp_path / "i", dense=spoilt)
    reader = Corpus.open(tmp_path / "t.parquet")
    assert sum(map(len, encoder.predict_batches(reader))) == 3
    with pytest.raises(DataError, match=r"t.parquet: row 1 .* a number beyond float16, expected f"):
        list(encoder.predict_batches(reader, kind="float16"))
    with pytest.raises(DataError, match=r"row 1 \(from 0\): a vector of its tokens"):
        spoilt.encode_tokens(["a cat", "the mat"])
    with pytest.raises(SettingsError, match="expected a name other than tokens, starts, ends"):
        encoder.predict_token_batches(reader, column="starts")


def test_vectors_of_tokens(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "m", pooling="mean")  # normalised, as a text's vector
    encoder = TextEncoder.load(tmp_path / "m", max_length=8)
    hidden = hidden_of(CONFIG, weights, [ids_of("the cat sat on the mat")])[0]
    with pytest.warns(FastseqWarning) as notices:
        found, empty, cut = encoder.encode_tokens(
            ["The cat sat on the mat", "", "a cats ran on the mat . the dog"]
        )
    assert len(notices) == 2
    assert found.tokens == ["the", "cat", "sat", "on", "the", "mat"]
    assert found.spans.tolist() == [[0, 3], [4, 7], [8, 11], [12, 14], [15, 18], [19, 22]]
    np.testing.assert_allclose(found.vectors, hidden[1:-1], rtol=0, atol=2e-5)
    assert len(empty) == 0
    assert empty.vectors.shape == (0, 24)
    assert cut.tokens == ["a", "cat", "##s", "ran", "on", "the"]
    # é is two bytes, and no piece of the vocabulary
    after = encoder.encode_tokens("é cat", prompt="the é ")
    assert isinstance(after, TokenVectors)
    assert (after.tokens, after.spans.tolist()) == (["[UNK]", "cat"], [[0, 1], [2, 5]])
    hidden = hidden_of(CONFIG, weights, [ids_of("the [UNK] [UNK] cat")])[0]
    np.testing.assert_allclose(after.vectors, hidden[3:-1], rtol=0, atol=2e-5)
    with pytest.warns(FastseqWarning, match="split"):
        whole = encoder.encode_tokens(
            "a cats ran on the mat . the dog", on_truncate="split", normalize=True
        )
    assert isinstance(whole, TokenVectors)
    assert whole.tokens == [*cut.tokens, "mat", ".", "the", "dog"]
    last = hidden_of(CONFIG, weights, [ids_of("mat . the dog")])[0][1:-1]
    last /= np.linalg.norm(last, axis=1)[:, None]
    np.testing.assert_allclose(whole.vectors[6:], last, rtol=0, atol=1e-5)
    with pytest.raises(SettingsError):
        encoder.encode_tokens("a", normalize=1)  # type: ignore[arg-type]


def test_int8_is_within_half_a_scale() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (500, 48)).astype(np.float32) * rng.choice(
        np.float32([1e-40, 1e-30, 1, 1e30]), (500, 1)
    )
    vectors[3] = 0
    vectors[4] = np.nan
    values, scales = to_int8(vectors)
    assert np.isnan(scales[4])
    assert not values[[3, 4]].any()
    assert (np.abs(values[5:]).max(1) == 127).sum() > 300
    rest = np.delete(np.arange(500), 4)
    error = np.abs(values[rest] * scales[rest, None].astype(np.float64) - vectors[rest])
    assert (error <= np.maximum(scales[rest, None] * 0.501, 1e-42)).all()


def test_kinds_of_input(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m")
    encoder = TextEncoder.load(tmp_path / "m")
    assert encoder.encode("the cat").shape == (24,)
    assert encoder.encode([]).shape == (0, 24)
    column = pa.array(["the cat", "a dog"])
    np.testing.assert_array_equal(encoder.encode(column), encoder.encode(["the cat", "a dog"]))
    with pytest.raises(DataError, match="UTF-8"):
        encoder.encode(pa.array([b"a", b"\xff"]))
    with pytest.raises(SettingsError, match="cannot read texts from a bytes"):
        encoder.encode(b"the cat")
    for wrong in ({"on_truncate": "cut"}, {"prompt": 3}, {"prompt": "\ud800"}):
        with pytest.raises(SettingsError):
            encoder.encode("a", **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_length": 17}, "16 positions"),
        ({"max_length": 2}, "max_length"),
        ({"pooling": "sum"}, "pooling"),
        ({"threads": 0}, "threads"),
    ],
)
def test_wrong_settings(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    write_checkpoint(tmp_path / "m")
    with pytest.raises(SettingsError, match=message):
        TextEncoder.load(tmp_path / "m", **wrong)  # type: ignore[arg-type]


def test_tokenizers_that_do_not_fit(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", limit=9)
    (tmp_path / "m" / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    TextEncoder.load(tmp_path / "m")  # the tokenizer does it too
    (tmp_path / "m" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(FormatError, match="lower-casing"):
        TextEncoder.load(tmp_path / "m")
    (tmp_path / "m" / "sentence_bert_config.json").unlink()
    pieces = [piece for piece in PIECES if piece != "[SEP]"]
    (tmp_path / "m" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    with pytest.raises(FormatError, match=r"no '\[SEP\]'"):
        TextEncoder.load(tmp_path / "m")


def test_old_names_and_other_types_of_weights(tmp_path: Path) -> None:
    weights = weights_of(CONFIG)
    write_checkpoint(tmp_path / "new")
    old = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): values
        for name, values in weights.items()
    }
    old["bert.embeddings.position_ids"] = np.arange(16)
    old["cls.predictions.bias"] = np.zeros(len(PIECES), np.float32)
    write_checkpoint(tmp_path / "old", weights=old)
    expected = TextEncoder.load(tmp_path / "new").encode("the cat sat")
    np.testing.assert_array_equal(
        TextEncoder.load(tmp_path / "old").encode("the cat sat"), expected
    )
    half = {name: values.astype(np.float16) for name, values in weights.items()}
    write_checkpoint(tmp_path / "half", weights=half)
    found = TextEncoder.load(tmp_path / "half").encode("the cat sat")
    np.testing.assert_allclose(found, expected, atol=0.02)
