"""The naive evaluator of queries: examples computed by hand."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from tests.naive import matching, ranking
from tests.naive.queries import Bm25, Bm25f, Corpus, Formula, Query, Smart, without_dropped


def corpus_of(*texts: str, dead: tuple[int, ...] = (), columns: Any = None) -> Corpus:
    """Documents of one column of words between spaces; - is a removed word."""
    documents = [
        {None: [[None if word == "-" else word for word in text.split()]]} for text in texts
    ]
    return Corpus(documents, None, columns, [row not in dead for row in range(len(texts))])


def term(token: str, field: str | None = None) -> tuple[Any, ...]:
    return "term", token, field


def phrase(text: str, slop: int = 0) -> tuple[Any, ...]:
    words = tuple((at, ("term", word)) for at, word in enumerate(text.split()) if word != "-")
    return "phrase", words, slop, None


def near(text: str, distance: int, in_order: bool = False) -> tuple[Any, ...]:
    return "near", tuple(("term", word) for word in text.split()), distance, in_order, None


def boolean(
    must: tuple[Query, ...] = (), should: tuple[Query, ...] = (), must_not: tuple[Query, ...] = (),
    filter: tuple[Query, ...] = (), minimum: int = 0,
) -> tuple[Any, ...]:  # fmt: skip
    return "boolean", must, should, must_not, filter, minimum


A, B, C = term("a"), term("b"), term("c")
# without length normalisation: tf / (tf + 1)
FLAT = Bm25("lucene", 1.0, 0.0)


def scores(corpus: Corpus, query: Query, model: Any = FLAT, fields: Any = None) -> dict[int, float]:
    """By row, in the order of the hits."""
    return {hit.row: hit.score for hit in corpus.hits(query, model, fields)}


def assert_scores(corpus: Corpus, query: Query, expected: dict[int, float]) -> None:
    found = scores(corpus, query)
    assert found == pytest.approx(expected, rel=1e-12)
    assert list(found) == list(expected)


def idf(df: float, documents: float) -> float:
    return math.log(1 + (documents - df + 0.5) / (df + 0.5))


# ---- phrases and words near each other


def test_exact_phrases() -> None:
    assert matching.exact_phrase([[0, 4, 7], [1, 6, 8]], [0, 1]) == 2  # from 0 and from 7
    assert matching.exact_phrase([[0, 1, 2], [0, 1, 2]], [0, 1]) == 2  # "a a" in "a a a"
    assert matching.exact_phrase([[3], [5]], [2, 4]) == 1  # a removed word between


@pytest.mark.parametrize(
    ("slots", "slop", "expected"),
    [
        # a b in "a x b": adjusted positions 0 and 1, match length 1
        ([[0], [2]], 1, 1 / 2),
        ([[0], [2]], 0, 0),
        # in "b a": 1 and -1; a transposition has a match length of 2
        ([[1], [0]], 2, 1 / 3),
        ([[1], [0]], 1, 0),
        # in "a a b": the second a is nearer, so the length falls from 1 to 0 before it counts
        ([[0, 1], [2]], 5, 1),
        # in "a b x x a b": adjusted a 0 4, b 0 4. Length 0 counts as a passes the b at 0; then
        # b is the lowest, 4 - 0 = 4, passes nothing at 4: length 0; it has no other: 0 counts
        ([[0, 4], [1, 5]], 5, 2),
        # in "a b x b": a 0, b 0 2. The lowest is a, at 0 as b; it has no other: only length 0
        ([[0], [1, 3]], 5, 1),
        # in "b x a b": a 2, b -1 2: b is the lowest, length 3; at 2 it does not pass a: length 0
        ([[2], [0, 3]], 5, 1),
        # "a a" in "a": both cursors are at 0, and the second has no other position
        ([[0], [0]], 5, 0),
        # "a a" in "a a a": the second starts at 1; adjusted 0 and 0. The first, at 1, collides with
        # the second, which moves to 2: adjusted 1 and 1, length 0 counts; then the first, at 2,
        # collides again and the second runs out: length 0 counts
        ([[0, 1, 2], [0, 1, 2]], 1, 2),
        # "a a" in "a x a": adjusted 0 and 1, length 1; the first, at 2, collides: it counts
        ([[0, 2], [0, 2]], 1, 1 / 2),
    ],
)
def test_sloppy_phrases_of_two_words(slots: Any, slop: int, expected: float) -> None:
    assert matching.sloppy_phrase(slots, [0, 1], slop) == pytest.approx(expected, rel=1e-12)


def test_sloppy_phrase_of_three_words() -> None:
    # a b c in "a c b": adjusted 0, 1 (b at 2), -1 (c at 1): match length 1 - -1 = 2
    assert matching.sloppy_phrase([[0], [2], [1]], [0, 1, 2], 2) == pytest.approx(1 / 3)
    assert matching.sloppy_phrase([[0], [2], [1]], [0, 1, 2], 1) == 0


def test_near() -> None:
    # a b in "a x b x x a": minimal intervals 0-2 with one other position and 2-5 with two
    slots = [[0, 5], [2]]
    assert matching.near(slots, 0, False) == 0
    assert matching.near(slots, 1, False) == 1 / 2
    assert matching.near(slots, 2, False) == pytest.approx(1 / 2 + 1 / 3)
    assert matching.near(slots, 2, True) == 1 / 2
    # a b in "a a b": 0-2 has 1-2 in it
    assert matching.near([[0, 1], [2]], 9, False) == 1
    # a a in "a a a": 0-1 and 1-2, each word at its own position
    assert matching.near([[0, 1, 2], [0, 1, 2]], 9, False) == 2
    assert matching.near([[0], [0]], 9, False) == 0
    # a b c in the order of the query, in "a c b c": 0-3 with one other
    assert matching.near([[0], [2], [1, 3]], 9, True) == 1 / 2
    assert matching.near([[0], [2], [1, 3]], 9, False) == 1
    # words that share positions: {0, 1} and {1}: one each
    assert matching.near([[0, 1], [1]], 9, False) == 1


def test_phrase_frequencies_and_idf() -> None:
    # b c adjacent in 1 and 3, twice in 3; b in 3 of 4, c in 4 of 4 documents
    corpus = corpus_of("b a c", "b c", "c", "b c b c")
    both = idf(3, 4) + idf(4, 4)
    assert_scores(corpus, phrase("b c"), {3: both * 2 / 3, 1: both / 2})
    # sloppy, 1: in 0 1/2; in 3 both occurrences, of length 0
    part = (1 / 2) / (1 / 2 + 1)
    assert_scores(corpus, phrase("b c", 1), {3: both * 2 / 3, 1: both / 2, 0: both * part})
    assert_scores(corpus, near("c b", 1), {3: both * 3 / 4, 1: both / 2, 0: both * part})
    # a removed word has a position: "b - c" is b, anything, c
    gapped = corpus_of("b - c", "b c")
    assert_scores(gapped, phrase("b - c"), {0: 2 * idf(2, 2) / 2})
    assert_scores(gapped, phrase("b c"), {1: 2 * idf(2, 2) / 2})


def test_columns_are_a_hundred_positions_apart() -> None:
    # a at 0, b at 1 + 100: 100 positions between them, match length 100
    corpus = Corpus([{None: [["a"], ["b"]]}])
    assert scores(corpus, near("a b", 99)) == scores(corpus, phrase("a b", 99)) == {}
    assert_scores(corpus, near("a b", 100), {0: 2 * idf(1, 1) * (1 / 101) / (1 / 101 + 1)})
    assert_scores(corpus, phrase("a b", 100), {0: 2 * idf(1, 1) * (1 / 101) / (1 / 101 + 1)})


# ---- words


def test_terms_and_statistics_of_live_documents() -> None:
    # of 3 documents with 4, 2 and 1 tokens (7/3 on average), one has a, twice
    corpus = corpus_of("a b a c", "b c", "c", "a a a", dead=(3,))
    norm = 0.25 + 0.75 * 4 / (7 / 3)
    found = scores(corpus, A, Bm25())
    assert found == pytest.approx({0: idf(1, 3) * 2 / (2 + 1.2 * norm)}, rel=1e-12)
    # a repeated word counts each time
    assert scores(corpus, boolean(should=(A, A)), Bm25())[0] == pytest.approx(2 * found[0])


def test_single_characters() -> None:
    # 猫 begins one bigram and ends two in 0; it is alone in 1; in a phrase it begins one
    corpus = corpus_of("猫犬 犬猫 鳥猫", "猫 a", "犬鳥")
    character = ("character", "猫", None)
    assert_scores(corpus, character, {0: idf(2, 3) * 2 / 3, 1: idf(2, 3) / 2})
    words = ((0, ("character", "猫")), (1, ("term", "犬猫")))
    assert_scores(corpus, ("phrase", words, 0, None), {0: (idf(2, 3) + idf(1, 3)) / 2})
    words = ((0, ("term", "犬猫")), (1, ("character", "猫")))
    assert scores(corpus, ("phrase", words, 0, None)) == {}


def test_edit_distance_and_wildcards() -> None:
    assert matching.edits("abcd", "acbd") == 1  # a transposition
    assert matching.edits("ca", "abc") == 3  # no edit between those transposed
    assert matching.edits("", "ab") == 2
    assert matching.edits("kitten", "sitting") == 3
    assert matching.wildcard("a*c?", "abbcd")
    assert matching.wildcard(r"a\*", "a*")
    assert not matching.wildcard(r"a\*", "ab")
    assert not matching.wildcard("?", "")
    assert matching.wildcard("*", "")


def test_groups_of_words() -> None:
    corpus = corpus_of("cat cats", "cats cart", "dog", "cat")
    # cat and cats: frequencies 2, 1, 0, 1; three documents with any
    expected = {0: idf(3, 4) * 2 / 3, 1: idf(3, 4) / 2, 3: idf(3, 4) / 2}
    for query in (
        ("prefix", "cat", None), ("wildcard", "cat*", None), ("regex", "cats?", None),
        ("synonyms", (term("cat"), term("cats"), term("cat"), None), None),
    ):  # fmt: skip
        assert_scores(corpus, query, expected)
    # one edit: cat 1, cats 1 - 1/3, cart 1 - 1/3
    tf = {0: 1 + 2 / 3, 1: 4 / 3, 3: 1.0}
    expected = {row: idf(3, 4) * own / (own + 1) for row, own in tf.items()}
    assert_scores(corpus, ("fuzzy", "cat", 1, 0, None), expected)
    # with car at the beginning only cart is left, one edit from car
    assert_scores(corpus, ("fuzzy", "car", 1, 3, None), {1: idf(1, 4) * (2 / 3) / (2 / 3 + 1)})
    # as many edits as the shorter word has characters are too many
    assert scores(corpus, ("fuzzy", "d", 2, 0, None)) == {}
    # a phrase is one of the synonyms
    both = ("synonyms", (phrase("cats cart"), term("dog")), None)
    assert_scores(corpus, both, {1: idf(2, 4) / 2, 2: idf(2, 4) / 2})


def test_patterns_match_words_before_stemming() -> None:
    stems = {None: [["run", None, "run"]]}
    corpus = Corpus(
        [stems, {None: [["run"]]}, {None: [["walk"]]}],
        [{None: [["running", None, "runs"]]}, {None: [["runs"]]}, {None: [["walks"]]}],
    )
    # "running" is a word of 0, whose term 1 has too
    expected = {0: idf(2, 3) * 2 / 3, 1: idf(2, 3) / 2}
    assert_scores(corpus, ("prefix", "runn", None), expected)
    assert scores(corpus, ("prefix", "walking", None)) == {}
    # runs is one edit from rums: 1 - 1/4, running is farther
    half = {0: idf(2, 3) * 1.5 / 2.5, 1: idf(2, 3) * 0.75 / 1.75}
    assert_scores(corpus, ("fuzzy", "rums", 1, 0, None), half)


def test_groups_have_the_terms_of_the_most_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.naive.queries.MOST_TERMS", 2)
    corpus = corpus_of("ab ac ad", "ac", "ad", "ab", "ae", "ac")
    assert set(scores(corpus, ("prefix", "a", None))) == {0, 1, 3, 5}  # ac, then ab before ad


# ---- conditions and constants

ROWS = [
    {"year": Decimal(2000), "lang": "en", "tags": ["x"]},
    {"year": None, "lang": "de", "tags": None},
    {"year": Decimal(2005), "lang": None, "tags": []},
]


def test_stored_columns_constants_and_all() -> None:
    corpus = corpus_of("a", "a b", "", "a", dead=(3,), columns=[*ROWS, ROWS[0]])
    new = ("compare", "year", ">", Decimal(1999))
    assert scores(corpus, ("condition", new)) == {0: 1, 2: 1}
    assert scores(corpus, ("filter", new)) == {0: 0, 2: 0}
    assert scores(corpus, ("all",)) == {0: 1, 1: 1, 2: 1}
    assert scores(corpus, ("exists", None)) == {0: 1, 1: 1}
    assert scores(corpus, ("between", "a", "b", True, False, None)) == {0: 1, 1: 1}
    assert scores(corpus, ("between", "a", None, False, True, None)) == {1: 1}
    assert scores(corpus, ("constant", A, 2.5)) == {0: 2.5, 1: 2.5}
    assert scores(corpus, ("boost", ("constant", A, 2.5), 2.0)) == {0: 5, 1: 5}
    assert scores(corpus, boolean(must=(A,), filter=(("condition", new),))) == pytest.approx(
        {0: idf(2, 3) / 2}
    )


def test_booleans() -> None:
    # a in 0 1 4, b in 1 2 4, c in 2 3 4; of one token in 5 documents each idf is that of 3 in 5
    corpus = corpus_of("a", "a b", "b c", "c", "a b c")
    one = idf(3, 5) / 2
    for query, expected in (
        (boolean(should=(A, B)), {1: 2, 4: 2, 0: 1, 2: 1}),
        (boolean(must=(A,), should=(B,)), {1: 2, 4: 2, 0: 1}),
        (boolean(must=(A, B)), {1: 2, 4: 2}),
        (boolean(must=(A,), must_not=(C,)), {0: 1, 1: 1}),
        (boolean(filter=(A,)), {0: 0, 1: 0, 4: 0}),
        (boolean(filter=(A,), should=(B,)), {1: 1, 4: 1, 0: 0}),
        (boolean(should=(A, B, C), minimum=2), {4: 3, 1: 2, 2: 2}),
        (boolean(should=(A,), minimum=2), {}),
        (boolean(must=(C,), should=(A, B), minimum=1), {4: 3, 2: 2}),
        (boolean(must_not=(A,)), {}),
        (boolean(), {}),
        # b and c count only where both are
        (boolean(should=(A, boolean(must=(B, C)))), {4: 3, 2: 2, 0: 1, 1: 1}),
        # the c of the conjunction and that of the disjunction
        (boolean(should=(C, boolean(must=(B, C)))), {2: 3, 4: 3, 3: 1}),
        (boolean(must=(("boost", boolean(should=(A, ("boost", B, 3.0))), 2.0),)),
         {1: 8, 4: 8, 2: 6, 0: 2}),
    ):  # fmt: skip
        assert_scores(corpus, query, {row: one * times for row, times in expected.items()})


def test_queries_without_words_are_dropped() -> None:
    corpus = corpus_of("a", "b")
    assert without_dropped(boolean(must=(None, A))) == boolean(must=(A,))
    assert without_dropped(boolean(must=(None,), must_not=(None,))) is None
    assert without_dropped(boolean()) == boolean()
    assert without_dropped(("boost", boolean(should=(None,)), 2.0)) is None
    assert without_dropped(("synonyms", (None,), None)) is None
    for query, expected in (
        (None, set()),
        (("constant", None, 1.0), set()),
        (boolean(must=(None,), should=(A,)), {0}),  # with neither must nor filter, one should
        (boolean(should=(None, A), minimum=2), set()),
        (boolean(must=(A, boolean(should=(None,)))), {0}),
        (boolean(must=(A, boolean(should=(None,), must_not=(B,)))), set()),
        (boolean(must=(A,), must_not=(boolean(must=(None,)),)), {0}),
    ):
        assert set(scores(corpus, query)) == expected


# ---- models


def test_absent_terms_add_a_constant_to_every_hit() -> None:
    # delta 1, k1 1, b 0: bm25+ has f(0) = 1 and f(1) = 2, with idf ln(4 / df)
    corpus = corpus_of("a", "a b", "b c")
    model = Bm25("bm25+", 1.0, 0.0, 1.0)
    a, b, c = (math.log(4 / df) for df in (2, 2, 1))
    found = scores(corpus, boolean(should=(A, C, term("d"))), model)
    assert found == pytest.approx({2: a + 2 * c, 0: 2 * a + c, 1: 2 * a + c})
    # c is in no document with a: no hit has b and c, but all have f(0) of both
    inner = boolean(must=(B, C))
    assert scores(corpus, boolean(must=(A,), should=(inner,)), model) == pytest.approx(
        {0: 2 * a + b + c, 1: 2 * a + b + c}
    )
    # bm25l, delta 1, k1 1, b 0: f(0) = 2 · 1 / 2 = 1, f(1) = 2 · 2 / 3, idf ln(4 / (df + 1/2))
    found = scores(corpus, boolean(should=(B, C)), Bm25("bm25l", 1.0, 0.0, 1.0))
    b, c = math.log(4 / 2.5), math.log(4 / 1.5)
    assert found == pytest.approx({2: 4 / 3 * (b + c), 1: 4 / 3 * b + c})


def test_tfidf() -> None:
    # ltc.ltc: in 0 a has 1 + ln 2, b 1; ln 3 and ln(3/2) are their idfs
    corpus = corpus_of("a b a", "b", "c")
    weight = {"a": (1 + math.log(2)) * math.log(3), "b": math.log(3 / 2)}
    norm = math.hypot(*weight.values())
    query = {"a": (1 + math.log(2)) * math.log(3), "b": math.log(3 / 2)}  # a twice
    length = math.hypot(*query.values())
    found = scores(corpus, boolean(should=(A, A, B)), Smart("ltc.ltc"))
    assert found == pytest.approx({
        0: sum(weight[word] / norm * query[word] / length for word in "ab"),
        1: query["b"] / length,
    })  # fmt: skip
    # a phrase: its frequency 1, the sum of the idfs of a and b, over the norm of the document
    both = math.log(3) + math.log(3 / 2)
    assert scores(corpus, phrase("a b"), Smart("ltc.nnn")) == pytest.approx({0: both / norm})
    # frequencies below 1 are their own logarithms
    assert scores(corpus, phrase("b a", 3), Smart("lnn.nnn")) == pytest.approx({0: 1})
    assert scores(corpus, phrase("b b", 3), Smart("lnn.nnn")) == {}
    assert scores(corpus_of("b x a"), phrase("b a", 3), Smart("lnn.nnn")) == {0: 0.5}
    found = scores(corpus_of("b x a a"), phrase("b a", 3), Smart("Lnn.nnn"))
    assert found == pytest.approx({0: 0.5 / (1 + math.log(4 / 3))})
    # a boost does not change the query's vector; another boost is another leaf
    one = scores(corpus, boolean(should=(A, B)), Smart("nnn.nnc"))[0]
    assert scores(corpus, boolean(should=(A, ("boost", B, 3.0))), Smart("nnn.nnc")) == (
        pytest.approx({0: one + 2 / math.sqrt(2), 1: 3 / math.sqrt(2)})
    )
    twice = boolean(should=(A, ("boost", A, 2.0)))
    assert scores(corpus, twice, Smart("nnn.nnc"))[0] == pytest.approx(2 * (1 + 2) / math.sqrt(2))


def test_formulas() -> None:
    # a is in 0 and 2, three times in all; 6 tokens in 3 documents. a times its idf ln(3 / 2), its
    # frequency and those in all documents over the length
    model = Formula(
        lambda tf, length, s: tf * s.cf * s.tokens / length, lambda s: math.log(s.documents / s.df)
    )
    corpus = corpus_of("a a b", "b", "a c", "a", dead=(3,))
    assert scores(corpus, A, model) == pytest.approx(
        {0: math.log(3 / 2) * 2 * 3 * 6 / 3, 2: math.log(3 / 2) * 1 * 3 * 6 / 2}
    )
    # of a phrase: the weights of its words are added, its own frequency is 1
    both = math.log(3 / 2) + math.log(3 / 2)
    assert scores(corpus, phrase("a b"), model) == pytest.approx({0: both * 6 / 3})


@pytest.mark.parametrize("variant", ranking.VARIANTS)
@pytest.mark.parametrize("notation", ["ltc.lnc", "Lpc.atn", "bnn.Lpc", "ntn.ltc"])
def test_bags_of_words_are_those_of_the_naive_models(variant: str, notation: str) -> None:
    texts = ["a b a c c c", "b c", "", "c d d b a e", "e e e e a"]
    corpus = corpus_of(*texts)
    tokens = [text.split() for text in texts]
    for words in (["a"], ["a", "b", "b"], ["c", "e", "e", "e", "none"], ["none"]):
        query = boolean(should=tuple(map(term, words)))
        for model, (expected, found) in (
            (Bm25(variant, 0.9, 0.4, 0.7), ranking.bm25(tokens, words, variant, 0.9, 0.4, 0.7)),
            (Smart(notation), ranking.smart(tokens, words, notation)),
        ):
            hits = scores(corpus, query, model)
            rows, values = ranking.top_k(expected, found, 10)
            assert hits == pytest.approx(dict(zip(rows.tolist(), values.tolist(), strict=True)))


# ---- fields


def in_fields(*rows: tuple[str, str]) -> Corpus:
    return Corpus([
        {None: [title.split(), body.split()], "title": [title.split()], "body": [body.split()]}
        for title, body in rows
    ])  # fmt: skip


BOTH = {"title": 1.0, "body": 1.0}


def test_a_sum_over_fields_is_not_bm25f() -> None:
    """The counterexample of duckdb-fts#42."""
    corpus = in_fields(("alpha", "alpha"), ("alpha alpha alpha", ""))
    alpha = term("alpha")
    # alpha is in both titles and one body: the sum saturates each field by itself
    assert scores(corpus, alpha, FLAT, BOTH) == pytest.approx(
        {0: idf(2, 2) / 2 + idf(1, 2) / 2, 1: idf(2, 2) * 3 / 4}
    )
    assert list(scores(corpus, alpha, FLAT, BOTH)) == [0, 1]
    flat = Bm25f(1.0, {"title": 0.0, "body": 0.0})
    found = scores(corpus, alpha, flat, BOTH)
    assert found == pytest.approx({1: idf(2, 2) * 3 / 4, 0: idf(2, 2) * 2 / 3})
    assert list(found) == [1, 0]


def test_one_word_twice_and_two_words() -> None:
    # each word is in one title and one body: the sums are equal; BM25F prefers both words
    corpus = in_fields(("a", "a"), ("b", "c"), ("c", "b"))
    query = boolean(should=(A, B))
    third = idf(1, 3) / 2
    assert scores(corpus, query, FLAT, BOTH) == pytest.approx({0: 2 * third, 1: third, 2: third})
    flat = Bm25f(1.0, {"title": 0.0, "body": 0.0})
    assert scores(corpus, query, flat, BOTH) == pytest.approx(
        {0: idf(1, 3) * 2 / 3, 1: idf(2, 3) / 2, 2: idf(2, 3) / 2}
    )


def test_bm25f_weights_and_lengths() -> None:
    # titles of 1 and 2 tokens, bodies of 3 and 1: average 1.5 and 2
    corpus = in_fields(("a", "b b c"), ("b c", "a"))
    model = Bm25f(1.2, {"title": 0.5, "body": 0.8})
    weights = {"title": 3.0, "body": 1.0}
    first = 3 * 1 / (0.5 + 0.5 * 1 / 1.5)
    second = 1 * 1 / (0.2 + 0.8 * 1 / 2)
    found = scores(corpus, A, model, weights)
    assert found == pytest.approx(
        {0: idf(2, 2) * first / (1.2 + first), 1: idf(2, 2) * second / (1.2 + second)}
    )
    # a leaf with a field of its own: this alone, of weight 1
    own = 1 / (0.5 + 0.5 * 1 / 1.5)
    assert scores(corpus, term("a", "title"), model, weights) == pytest.approx(
        {0: idf(1, 2) * own / (1.2 + own)}
    )
    # the words of a phrase by the documents that have them in any field
    found = scores(corpus, phrase("b c"), Bm25f(1.0, {"title": 0.0, "body": 0.0}), weights)
    assert found == pytest.approx({0: 2 * idf(2, 2) / 2, 1: 2 * idf(2, 2) * 3 / 4})


def test_sums_over_fields() -> None:
    corpus = in_fields(("a", "b b a"), ("b", ""))
    weights = {"title": 3.0, "body": 0.5}
    # a: df 1 in titles, 1 in bodies; b: 1 and 1
    one = idf(1, 2)
    assert scores(corpus, A, FLAT, weights) == pytest.approx({0: 3.5 * one / 2})
    assert scores(corpus, boolean(must=(A, B)), FLAT, weights) == pytest.approx(
        {0: 3.5 * one / 2 + 0.5 * one * 2 / 3}
    )
    # no phrase is in two fields, but a text of two columns has their words
    assert set(scores(corpus, boolean(must=(A, B)))) == {0}
    assert scores(corpus, phrase("a b"), FLAT, weights) == {}
    # each field has a query vector of its own
    found = scores(corpus, boolean(should=(A, B)), Smart("nnn.nnc"), BOTH)
    assert found == pytest.approx({0: 3 / math.sqrt(2) + 1 / math.sqrt(2), 1: 1 / math.sqrt(2)})
    # b in a field of weight 1 and b of this field are one leaf, twice in the query's vector of
    # 2 and 1: in 0 b is twice and a once
    query = boolean(should=(A, B, term("b", "body")))
    found = scores(corpus, query, Smart("nnn.nnc"), {"body": 1.0})
    assert found == pytest.approx({0: 5 / math.sqrt(5)})
    # a field of its own is not weighted
    assert scores(corpus, term("a", "title"), FLAT, weights) == pytest.approx({0: one / 2})
