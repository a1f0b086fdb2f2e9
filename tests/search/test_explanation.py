"""Explanations of scores: the numbers of the tree are those of the search, bit by bit."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Index
from fastseq.search.explanation import (
    Explanation,
    ScoredLeaf,
    addition_order,
    explain_sum,
    leaf_details,
)
from fastseq.search.ranking import BM25, TFIDF, BoW, RankingModel
from fastseq.text.analyzer import Analyzer
from fastseq.types import Texts
from tests.sampling import examples, some

WORDS = ["cat", "dog", "bird", "fish", "cow", "horse", "bee", "ant", "owl", "fox"]
MODELS = [
    *[BM25(variant=variant) for variant in ("lucene", "robertson", "atire", "bm25+", "bm25l")],
    BM25(k1=0.3, b=1.0), BM25(k1=0, b=0, delta=0, variant="bm25l"),
    TFIDF(), TFIDF("lnc.ltc"), TFIDF("Lpn.atc"), BoW(), BoW(cosine=True),
]  # fmt: skip


def make_index(path: Path, documents: int = 300) -> Index:
    """Documents of random words, in two segments, some of them deleted."""
    chance = random.Random(7)
    rows = [
        {"id": i, "text": " ".join(chance.choices(WORDS, k=chance.randint(1, 40)))}
        for i in range(documents)
    ]
    index = Index.build(rows[: documents * 2 // 3], path, analyzer=Analyzer(tokenizer="space"))
    index.add(rows[documents * 2 // 3 :])
    index.delete(list(range(0, documents, 7)))
    return index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return make_index(tmp_path_factory.mktemp("explained") / "index")


def leaves_of(
    index: Index, model: RankingModel, query: str, row: int
) -> tuple[list[ScoredLeaf], float]:
    """The leaves of a document's score, in the order of addition, and what every hit gets: weights
    and parts as the searcher has them."""
    searcher = index._searcher
    collection, table = searcher.collection, searcher.table
    scorer = searcher.scorer(model)
    numbers, offsets = table.of(Texts.from_strings([query]))
    terms = model.weigh(collection, table.counted(numbers, offsets))
    names = Texts(*table._terms.texts()).to_strings()
    number, leaf = next(
        (s, each) for s, each in enumerate(collection.leaves)
        if each.first_row <= row < each.first_row + each.segment.documents
    )  # fmt: skip
    own = table.ids(terms.terms)[number]
    impacts, postings = scorer.impacts(number, own), leaf.segment.postings
    found = []
    for at in addition_order(terms.weights):
        if own[at] < 0:
            continue
        first, last = postings.term_posting[own[at] : own[at] + 2].tolist()
        for place in range(first, last):
            if int(postings.docs[place]) == row - leaf.first_row:
                name = names[terms.terms[at]]
                weight, part = float(terms.weights[at]), float(impacts.parts[place])
                details = leaf_details(
                    model, weight, part, tf=1, length=10, average=20.5, documents=len(index),
                    df=[(name, int(terms.df[at]))], boost=float(query.split().count(name)),
                )  # fmt: skip
                found.append(ScoredLeaf(name, weight, part, details))
    return found, float(terms.base[0])


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_sum_has_the_bits_of_the_score(index: Index, model: RankingModel) -> None:
    chance = random.Random(str(model))
    for _ in range(8):
        query = " ".join(chance.choices([*WORDS, "unknown"], k=chance.randint(1, 12)))
        for k in (3, 1000):
            hits = index.search(query, k=k, model=model)
            rows = hits.rows[0, : hits.counts[0]].tolist()
            for row, score in some(list(zip(rows, hits.scores[0], strict=False)), 40, query):
                tree = explain_sum(*leaves_of(index, model, query, row))
                assert np.float32(tree.value).tobytes() == score.tobytes()


def test_the_sum_is_in_float32_and_in_order() -> None:
    # 1 + 2^-24 is 1 in float32, and so are two of them one after the other, but not their sum
    tiny = 2.0**-24
    leaves = [ScoredLeaf("a", 1.0, 1.0), ScoredLeaf("b", tiny, 1.0), ScoredLeaf("c", tiny, 1.0)]
    assert explain_sum(leaves).value == 1.0
    assert explain_sum(leaves[::-1]).value == 1 + 2.0**-23
    # a product is rounded before it is added: fused, this would be 2^-46
    a = ScoredLeaf("a", 1 + 2.0**-23, 1 + 2.0**-23)
    b = ScoredLeaf("b", 1 + 2.0**-22, -1.0)
    assert explain_sum([a, b]).value == 0.0


def naive_sum(leaves: list[tuple[float, float]], base: float) -> np.float32:
    total = np.zeros(1, np.float32)
    for weight, part in leaves:
        total += np.array([weight], np.float32) * np.array([part], np.float32)
    return (total + np.array([base], np.float32))[0]


numbers = st.floats(-1e6, 1e6, width=32)


@settings(deadline=None, max_examples=examples(300))
@given(st.lists(st.tuples(numbers, numbers), max_size=12), numbers)
def test_values_of_details_add_up(leaves: list[tuple[float, float]], base: float) -> None:
    tree = explain_sum([ScoredLeaf(f"leaf {i}", w, p) for i, (w, p) in enumerate(leaves)], base)
    assert np.float32(tree.value) == naive_sum(leaves, base)
    if len(leaves) + (base != 0) > 1:
        total = np.float32(0)
        for detail in tree.details:
            total += np.float32(detail.value)
        assert float(total) == tree.value
    for line in str(tree).splitlines():  # the numbers that are shown are those of the tree
        assert np.isfinite(float(line.split(" = ")[0]))


def test_addition_order_is_descending_with_equals_as_given() -> None:
    assert addition_order(np.array([1, 3, 2, 3, 1], np.float32)) == [1, 3, 2, 0, 4]
    assert addition_order(np.zeros(0, np.float32)) == []


def test_a_lone_leaf_is_the_tree(index: Index) -> None:
    leaves, base = leaves_of(index, BM25(), "cat", int(index.search("cat").rows[0, 0]))
    tree = explain_sum(leaves, base)
    assert tree.description.startswith("cat")
    assert [detail.description.split(",")[0] for detail in tree.details] == ["weight", "part"]
    assert explain_sum([]) == Explanation(0.0, "no leaf that scores")


def test_the_text_is_an_indented_tree() -> None:
    tree = Explanation(
        float(np.float32(0.1)), "sum of:",
        (Explanation(2, "tf"), Explanation(0.1, "b", (Explanation(1e20, "deeper"),))),
    )  # fmt: skip
    assert str(tree).splitlines() == [
        "0.1 = sum of:", "  2 = tf", "  0.1 = b", "    1e+20 = deeper",
    ]  # fmt: skip
    assert json.loads(json.dumps(tree.to_dict())) == {
        "value": float(np.float32(0.1)), "description": "sum of:",
        "details": [
            {"value": 2, "description": "tf", "details": []},
            {"value": 0.1, "description": "b", "details": [
                {"value": 1e20, "description": "deeper", "details": []},
            ]},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("variant", ["lucene", "robertson", "atire", "bm25+", "bm25l"])
def test_details_of_bm25_multiply_to_the_weight_and_give_the_part(variant: str) -> None:
    n, df, tf, length, average, k1, b, delta = 1000, 30, 3, 50.0, 80.0, 1.1, 0.6, 0.4
    idf = {
        "lucene": np.log(1 + (n - df + 0.5) / (df + 0.5)),
        "robertson": np.log((n - df + 0.5) / (df + 0.5)), "atire": np.log(n / df),
        "bm25+": np.log((n + 1) / df), "bm25l": np.log((n + 1) / (df + 0.5)),
    }[variant]  # fmt: skip
    scale = 1.0 if variant in ("lucene", "robertson") else k1 + 1
    saturation = k1
    if variant == "bm25l":
        scale *= k1 / (k1 + delta)
        saturation = k1 + delta
    weight = 2.5 * idf * scale
    part = tf / (tf + saturation * (1 - b + b * length / average))
    model = BM25(k1=k1, b=b, delta=delta, variant=variant)
    of_weight, of_part = leaf_details(
        model, weight, part, tf=tf, length=length, average=average, documents=n,
        df=[("cat", df)], boost=2.5,
    )  # fmt: skip
    assert np.prod([detail.value for detail in of_weight.details]) == pytest.approx(weight)
    by_name = {detail.description.split(",")[0]: detail.value for detail in of_weight.details}
    assert by_name["idf"] == pytest.approx(idf)
    values = {detail.description.split(",")[0]: detail.value for detail in of_part.details}
    assert values["tf"] == tf
    assert values["k1"] + values.get("δ", 0) == pytest.approx(saturation)
    assert values["b"] == b
    assert (values["length of the document"], values["average"]) == (length, average)


def test_details_of_a_boost_of_zero_have_no_idf() -> None:
    of_weight, _ = leaf_details(
        BM25(), 0.0, 0.5, tf=1, length=1, average=1, documents=2, df=[("cat", 1)], boost=0.0
    )
    assert [detail.value for detail in of_weight.details] == [0.0]
