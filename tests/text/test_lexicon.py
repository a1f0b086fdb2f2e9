"""Ids that do not depend on slices and threads; texts of unusual shapes; the hash tables."""

from __future__ import annotations

import random
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fastseq.kernels.text import hashing
from fastseq.text import tables
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon, TicketLock, WordFilter
from fastseq.text.tables import ByteTable, KeyTable
from fastseq.types import Texts, Tokens
from tests.naive import text as naive

SETTINGS: list[dict[str, Any]] = [
    {},
    {"stopwords": "lucene", "stemmer": "english", "min_length": 3},
    {"ngrams": (1, 3), "stopwords": "lucene"},
    {"ngrams": (2, 2)},
    {"char_ngrams": (2, 4), "fold_accents": True},
    {"cjk": "words", "stopwords": ("喜欢",)},
    {"cjk": "words", "char_ngrams": (1, 2)},
]
ANALYZERS = [
    *(
        Analyzer(tokenizer=tokenizer, **settings)
        for tokenizer in ("unicode", "word")
        for settings in SETTINGS
    ),
    Analyzer(tokenizer=str.split, ngrams=(1, 2)),
]


def _collection(n: int, seed: int = 0) -> list[str]:
    """Texts whose words follow a power law, with some of every odd kind."""
    rng = random.Random(seed)
    odd = ["Été", "猫喜欢吃鱼", "한국어", "ΑΣ", "İs", "don’t", "supercalifragilistic", "ﬁn"]

    def word() -> str:
        i = int(rng.paretovariate(0.7)) % 100_000
        return odd[i % 8] if i % 11 == 3 else f"the{i}" if i % 2 else ["the", "cats"][i % 4 // 2]

    return [" ".join(word() for _ in range(rng.randrange(40))) for _ in range(n)]


def _rows(tokens: Tokens) -> list[list[int]]:
    return [
        tokens.values[a:b].tolist()
        for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    ]


def _slices(texts: Texts, n: int) -> list[Texts]:
    """n slices that share the texts' data, as the index cuts a batch."""
    cuts = np.linspace(0, len(texts), n + 1).astype(int)
    return [Texts(texts.data, texts.offsets[a : b + 1]) for a, b in pairwise(cuts)]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("analyzer", ANALYZERS, ids=range(len(ANALYZERS)))
def test_ids_do_not_depend_on_slices_or_threads(analyzer: Analyzer, gaps: bool) -> None:
    if gaps and analyzer.has_ngrams:
        return
    texts = Texts.from_strings(_collection(600))
    whole = Lexicon(analyzer, gaps)
    expected = whole.encode_levels(texts)
    sliced, threaded = Lexicon(analyzer, gaps), Lexicon(analyzer, gaps, max_raw_bytes=20_000)
    forgetful = Lexicon(analyzer, gaps, max_raw_bytes=0)
    slices = _slices(texts, 13)
    in_turn = [sliced.encode_levels(part) for part in slices]
    forgotten = [forgetful.encode_levels(part) for part in slices]

    line, places = TicketLock(), iter(range(len(slices)))
    at_once: list[list[Tokens]] = [[]] * len(slices)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                place = next(places, None)
            if place is None:
                return
            at_once[place] = threaded.encode_levels(slices[place], line.ticket(place))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for lexicon, parts in ((sliced, in_turn), (threaded, at_once), (forgetful, forgotten)):
        assert lexicon.section_sizes == whole.section_sizes
        assert lexicon.terms().to_strings() == whole.terms().to_strings()
        for level, tokens in enumerate(expected):
            rows = [row for part in parts for row in _rows(part[level])]
            assert rows == _rows(tokens)
    assert len(whole) == sum(whole.section_sizes) == len(set(whole.terms().to_strings()))


@pytest.mark.parametrize(
    "analyzer", [Analyzer(stemmer="english"), Analyzer(char_ngrams=(2, 5))], ids=["stems", "grams"]
)
def test_the_cache_of_raw_words_is_cleared_at_its_limit(
    monkeypatch: pytest.MonkeyPatch, analyzer: Analyzer
) -> None:
    cleared = 0
    clear_raw = WordFilter.clear_raw

    def counted(self: WordFilter) -> None:
        nonlocal cleared
        cleared += 1
        clear_raw(self)

    slices = _slices(Texts.from_strings(_collection(600)), 6)
    whole = Lexicon(analyzer)
    for part in slices:
        whole.encode_levels(part)
    assert whole._raw is not None
    raw, others = whole._raw.nbytes, whole._filter.raw_bytes
    assert raw > 0 < others
    monkeypatch.setattr(WordFilter, "clear_raw", counted)
    for limit, least, most in ((0, 5, 5), (raw + others // 2, 0, 1), (raw + others, 0, 0)):
        lexicon, cleared = Lexicon(analyzer, max_raw_bytes=limit), 0
        for part in slices:
            lexicon.encode_levels(part)
        assert least <= cleared <= most
        assert lexicon.terms().to_strings() == whole.terms().to_strings()
        assert lexicon.nbytes <= whole.nbytes - (limit == 0)
    lexicon, cleared = Lexicon(analyzer, max_raw_bytes=raw + others - 1), 0
    for part in [*slices, slices[0]]:
        lexicon.encode_levels(part)
    assert cleared == 1  # raw words alone take less


GAPS: list[tuple[Analyzer, str, list[str | None]]] = [
    (Analyzer(), "The cat — sat", ["the", "cat", "sat"]),
    (Analyzer(stopwords="lucene"), "The cat is the. End", [None, "cat", None, None, "end"]),
    (Analyzer(stopwords=("cats",), stemmer="english"), "cat Cats cat's", ["cat", None, "cat"]),
    (Analyzer(min_length=2, max_length=3), "a bb ccc dddd 猫", [None, "bb", "ccc", None, "猫"]),
    (Analyzer(tokenizer="word"), "a bb", ["bb"]),
    (Analyzer(tokenizer="word", min_length=3), "a bb ccc", [None, "ccc"]),
    (Analyzer(tokenizer="space", stopwords=("a",)), "a b a", [None, "b", None]),
    (Analyzer(tokenizer="char", stopwords=("a",)), "aba c", [None, "b", None, "c"]),
    (Analyzer(cjk="words", stopwords=("吃", "the")), "喜欢吃 the 吃", ["喜欢", *[None] * 3]),
    (Analyzer(stopwords=("喜欢", "猫")), "猫喜欢 猫", ["猫喜", None, None]),
    (Analyzer(tokenizer=str.split, stopwords=("x",)), "x y X", [None, "y", None]),
    (Analyzer(stopwords=("a", "b")), "a b a", [None, None, None]),
]  # fmt: skip


@pytest.mark.parametrize(("analyzer", "text", "expected"), GAPS, ids=range(len(GAPS)))
def test_gaps_of_removed_words(analyzer: Analyzer, text: str, expected: list[str | None]) -> None:
    lexicon = Lexicon(analyzer, gaps=True)
    for _ in range(2):  # the words are new, then known
        tokens = lexicon.encode(Texts.from_strings([text, "", text]))
        terms = lexicon.terms().to_strings()
        for row in (0, 2):
            ids = tokens.values[tokens.offsets[row] : tokens.offsets[row + 1]]
            assert [None if i < 0 else terms[i] for i in ids] == expected
            assert (ids >= -1).all()
        assert tokens.offsets[1] == tokens.offsets[2]
    assert analyzer.tokens(text) == [token for token in expected if token is not None]


@pytest.mark.parametrize("analyzer", ANALYZERS, ids=range(len(ANALYZERS)))
def test_gaps_change_no_id(analyzer: Analyzer) -> None:
    if analyzer.has_ngrams:
        return
    texts = Texts.from_strings(_collection(200, seed=3))
    plain, with_gaps = Lexicon(analyzer), Lexicon(analyzer, gaps=True)
    expected, found = _rows(plain.encode(texts)), _rows(with_gaps.encode(texts))
    assert [[i for i in row if i >= 0] for row in found] == expected
    assert with_gaps.terms().to_strings() == plain.terms().to_strings()
    removes = analyzer.stopwords != "none" or analyzer.min_length is not None
    assert (found != expected) == removes


def test_ids_count_up_by_first_occurrence() -> None:
    texts = _collection(300, seed=1)
    lexicon = Lexicon(Analyzer(tokenizer="word"))
    got: list[list[int]] = []
    for part in (texts[:7], texts[7:7], texts[7:150], texts[150:]):
        got += _rows(lexicon.encode(Texts.from_strings(part)))
    ids, known = naive.first_occurrence_ids([naive.words_and_bigrams(text) for text in texts])
    assert got == ids
    assert lexicon.terms().to_strings() == known
    assert len(lexicon) == len(known)


def test_ids_of_several_n_name_the_terms() -> None:
    texts = _collection(50, seed=2)
    lexicon = Lexicon(Analyzer(tokenizer="word", ngrams=(1, 3)))
    rows = _rows(lexicon.encode(Texts.from_strings(texts)))
    terms = lexicon.terms().to_strings()
    for row, text in zip(rows, texts, strict=True):
        assert [terms[i] for i in row] == naive.word_ngrams(naive.words_and_bigrams(text), 1, 3)


def test_no_texts_and_empty_texts() -> None:
    for analyzer in ANALYZERS:
        lexicon = Lexicon(analyzer)
        assert lexicon.terms().to_strings() == []
        assert lexicon.encode(Texts.from_strings([])).offsets.tolist() == [0]
        tokens = lexicon.encode(Texts.from_strings(["", " ", ""]))
        assert tokens.offsets.tolist() == [0, 0, 0, 0]
        assert tokens.values.dtype == np.int32
        assert len(tokens.values) == len(lexicon) == 0
        lexicon.encode(Texts.from_strings(["cats purring 猫"]))
        assert len(lexicon) > 0


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 2047, 2048, 2049, 5000])
def test_words_across_block_borders(size: int) -> None:
    texts = []
    for word in ("a" * size, "A" * size + "é", "é" + "b" * size, "猫" * size):
        for lead in range(0, 70, 3):
            texts += [" " * lead + word, "." * lead + word + " cd" * lead]
    tokens = Lexicon(Analyzer(tokenizer="word"))
    rows = _rows(tokens.encode(Texts.from_strings(texts)))
    ids, known = naive.first_occurrence_ids([naive.words_and_bigrams(text) for text in texts])
    assert tokens.terms().to_strings() == known
    assert rows == ids


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000_000,
        "é" * 5_000_000,
        "term " * 100_000,
        "Σ" + "." * 2_000_000 + "Σ",
        " ".join(f"w{i}" for i in range(700_000)),
        "猫犬" * 500_000,
    ],
    ids=["word", "accents", "repeated", "sigma", "distinct", "bigrams"],
)
def test_long_texts(text: str) -> None:
    lexicon = Lexicon(Analyzer(tokenizer="word"))
    rows = _rows(lexicon.encode(Texts.from_strings(["first", text, "last"])))
    terms = lexicon.terms().to_strings()
    pairs = [text[i : i + 2] for i in range(len(text) - 1)]
    expected = pairs if text[0] == "猫" else naive.words(text)
    assert [terms[i] for i in rows[1]] == expected
    assert [terms[i] for i in rows[0] + rows[2]] == ["first", "last"]


def test_invalid_bytes_are_tokens() -> None:
    many = Lexicon(Analyzer(tokenizer="char"))
    assert len(many.encode(Texts.from_strings(["ab" * 100_000])).values) == 200_000
    # one character of three bytes that folds to eighteen in four words
    folded = Lexicon(Analyzer(tokenizer="char", fold_accents=True))
    assert len(folded.encode(Texts.from_strings(["\ufdfa" * 5000])).values) == 15 * 5000


def test_slice_reads_only_its_own_texts() -> None:
    data = np.frombuffer(bytearray("éaa bb猫\ud7ffcc dd".encode()), np.uint8)
    offsets = np.array([2, 7, 8], np.int64)  # «aa bb» and the first byte of 猫
    lexicon = Lexicon(Analyzer(tokenizer="word"))
    rows = _rows(lexicon.encode(Texts(data, offsets[:2])))
    assert [lexicon.terms().to_strings()[i] for i in rows[0]] == ["aa", "bb"]


def test_read_only_arrays_are_accepted() -> None:
    texts = Texts(np.frombuffer(b"aa bb", np.uint8), np.array([0, 5], np.int64))
    assert len(Lexicon(Analyzer(tokenizer="word")).encode(texts).values) == 2


# ---- hash tables


def _strings(n: int) -> list[str]:
    rng = random.Random(3)
    words = {"", "\0", "\0\0", "a", "a\0", "12345678", "123456789", "x" * 1000}
    while len(words) < n:
        words.add("".join(rng.choices("ab\0é", k=rng.randrange(24))))
    return sorted(words)


def test_static_dictionary() -> None:
    words = _strings(3000)
    known, asked = Texts.from_strings(words[::2]), Texts.from_strings(words)
    slots = np.zeros(2048, np.uint32)
    hashing.build_slots(slots, known.data, known.offsets)
    again = np.zeros(2048, np.uint32)
    hashing.build_slots(again, known.data, known.offsets)
    assert (slots == again).all()
    out = np.empty(len(words), np.int32)
    hashing.lookup(out, slots, known.data, known.offsets, asked.data, asked.offsets)
    assert out.tolist() == [i // 2 if i % 2 == 0 else -1 for i in range(len(words))]


def test_damaged_dictionary_never_crashes() -> None:
    rng = np.random.default_rng(4)
    words = Texts.from_strings(_strings(500))
    for _ in range(20):
        slots = rng.integers(1, 2**32, 1024, dtype=np.uint32)  # no slot is free
        slots[::3] = rng.integers(0, 520, len(slots[::3]))
        offsets = rng.integers(-(2**62), 2**62, len(words.offsets))
        out = np.empty(len(words), np.int32)
        for terms in (words.offsets, offsets):
            hashing.lookup(out, slots, words.data, terms, words.data, words.offsets)
            assert ((out >= -1) & (out < len(words))).all()
        hashing.lookup(out, slots, words.data, words.offsets, words.data, words.offsets)
        found = np.flatnonzero(out >= 0)
        assert (out[found] == found).all()


@pytest.mark.parametrize("dense", [8, 1 << 10, 1 << 18])
def test_growing_table(monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    monkeypatch.setattr(tables, "_LARGE_TABLE", dense)
    words = _strings(3000)
    texts = Texts.from_strings([*words, *words[::-1], "        "])
    data, starts = np.append(texts.data, np.zeros(8, np.uint8)), texts.offsets
    table = ByteTable(1, 1, 0)
    ids = table.register(data, starts, 0)
    assert ids.tolist() == [*range(3000), *range(3000)[::-1], 3000]
    assert Texts(*table.texts()).to_strings() == [*words, "        "]
    assert table.nbytes == table.slots.nbytes + 8 * 3001 + len(texts.data) // 2 + 4
    capacity = len(table.slots) // 2
    most = 3 * capacity // 4 if dense <= capacity else capacity // 2
    assert len(table) <= table.max_entries == most


@pytest.mark.parametrize("dense", [8, 1 << 18])
def test_growing_keys(monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    monkeypatch.setattr(tables, "_LARGE_TABLE", dense)
    rng = np.random.default_rng(5)
    keys = np.unique(rng.integers(0, 2**64, 5000, dtype=np.uint64))
    keys[0] = 0
    table = KeyTable(1)
    assert table.register(np.concatenate([keys, keys])).tolist() == [*range(len(keys))] * 2
    assert (table.keys == keys).all()
    capacity = len(table.slots) // 2
    most = 3 * capacity // 4 if dense <= capacity else capacity // 2
    assert len(table) <= table.max_entries == most
    assert table.nbytes == table.slots.nbytes + keys.nbytes


@pytest.mark.parametrize("large", [8, 1 << 18])
def test_tables_grow_when_they_are_full_and_not_before(
    monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(tables, "_LARGE_TABLE", large)
    for expected in range(70):
        keys, words = KeyTable(expected), ByteTable(expected, 1000, 0)
        sizes = len(keys.slots), len(words.slots)
        for number in range(150):
            text = Texts.from_strings([f"{number:03}"])
            assert keys.register(np.array([number * number], np.uint64)).tolist() == [number]
            data = np.append(text.data, np.zeros(8, np.uint8))
            assert words.register(data, text.offsets, 0).tolist() == [number]
            for table, size in ((keys, sizes[0]), (words, sizes[1])):
                assert len(table) == number + 1 <= table.max_entries < len(table.slots) // 2
                if number < expected:
                    assert len(table.slots) == size
