"""Explanations of scores: trees whose numbers add up to the score, bit by bit.

A score is a float32 sum of products weight · part, added one after the other and each rounded, then
of what is added to every hit (kernels/search/search.py). `explain_sum` computes the same numbers.
Weights and parts are rounded once from the float64 values of their formulas, which their own
details have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastseq.search.bm25f import BM25F
from fastseq.search.ranking import (
    BM25,
    DPH,
    PL2,
    Dirichlet,
    Dot,
    FormulaModel,
    JelinekMercer,
    RankingModel,
)
from fastseq.types import Float32

_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Explanation:
    """A number, how it comes about, and the numbers that it is computed from."""

    value: float
    description: str
    details: tuple[Explanation, ...] = ()

    def __str__(self) -> str:
        """The tree, a line for each number, details indented below."""
        lines: list[str] = []
        waiting = [(self, 0)]
        while waiting:
            node, depth = waiting.pop()
            lines.append(f"{_INDENT * depth}{_number(node.value)} = {node.description}")
            waiting += [(detail, depth + 1) for detail in reversed(node.details)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The tree as a dictionary of value, description and details, for JSON."""
        return {
            "value": self.value,
            "description": self.description,
            "details": [detail.to_dict() for detail in self.details],
        }


class ScoredLeaf(NamedTuple):
    """What a document's score has of one leaf of a query.

    weight  float32, of the query
    part    float32, of the document
    details of both, in any number
    """

    description: str
    weight: float
    part: float
    details: tuple[Explanation, ...] = ()


def explain_sum(leaves: Sequence[ScoredLeaf], base: float = 0.0) -> Explanation:
    """The score of a document by leaves that are in the order of addition (`addition_order`), as
    the kernels compute it; `base` is what is added to every hit."""
    total = np.float32(0)
    details = []
    for leaf in leaves:
        weight, part = np.float32(leaf.weight), np.float32(leaf.part)
        product = weight * part
        total = total + product
        own = leaf.details or (
            Explanation(float(weight), "weight"), Explanation(float(part), "part"),
        )  # fmt: skip
        details.append(Explanation(float(product), f"{leaf.description}, weight · part of:", own))
    if np.float32(base) != 0:
        total = total + np.float32(base)
        details.append(Explanation(float(np.float32(base)), "added to every hit of the query"))
    if len(details) == 1:
        return details[0]
    return Explanation(
        float(total), "sum of:" if details else "no leaf that scores", tuple(details)
    )


def addition_order(weights: Float32) -> list[int]:
    """The order in which leaves are added: descending weight, equal ones as given, which is the
    order of their terms' bytes."""
    order: list[int] = np.argsort(-weights, kind="stable").tolist()
    return order


# what a weight of BM25 has besides the boost and the idf, and the idf, by variant
_IDF = {
    "lucene": "ln(1 + (N - df + ½) / (df + ½))",
    "robertson": "ln((N - df + ½) / (df + ½)), at least 0",
    "atire": "ln(N / df)",
    "bm25+": "ln((N + 1) / df)",
    "bm25l": "ln((N + 1) / (df + ½))",
}


# the statistics that the parts of models by formula use; all of them where a model is not here
_STATISTICS: dict[type, tuple[str, ...]] = {
    Dirichlet: ("cf", "T"), JelinekMercer: ("cf", "T"), DPH: ("cf", "T"),
    PL2: ("cf", "N", "average"),
}  # fmt: skip
_PARAMETERS = {"mu": "μ", "lam": "λ", "c": "c"}


def leaf_details(
    model: RankingModel, weight: float, part: float, *, tf: float, length: float, average: float,
    documents: int, df: Sequence[tuple[str, int]], boost: float = 1.0, cf: float = 0.0,
    tokens: int = 0, fields: Sequence[Explanation] = (),
) -> tuple[Explanation, ...]:  # fmt: skip
    """The details of a leaf: those of its weight and of its part.

    Parameters
    ----------
    weight, part : float32, of the leaf
    tf : occurrences of the leaf in the document
    length, average : of the document, and of all documents on average, in tokens
    documents : in the index
    df : the words of the leaf, several of a phrase, and the documents with each
    boost : the factor of the query, its occurrences there included
    cf, tokens : occurrences of the leaf in all documents, and their tokens; for models by formula
    fields : of BM25F, what the frequency in each field adds to tf
    """
    if isinstance(model, Dot):
        return (
            Explanation(weight, "weight in the query"),
            Explanation(part, "weight in the document"),
        )
    with_word = [Explanation(count, f"df, documents with {word}") for word, count in df]
    counts = (*with_word, Explanation(documents, "N, documents"))
    boosted = Explanation(boost, "boost and occurrences in the query")
    occurrences = Explanation(tf, "tf, occurrences in the document")
    lengths = (
        Explanation(length, "length of the document"),
        Explanation(average, "average, of all documents"),
    )
    if isinstance(model, BM25F):
        how = f"idf, {_idf_formula('lucene', df)}, from:"
        of_words = (Explanation(weight / boost, how, counts),) if boost else ()
        frequency = Explanation(tf, "f, sum over the fields of:", tuple(fields))
        k1 = Explanation(model.k1, "k1, term-frequency saturation")
        return (
            Explanation(weight, "weight, product of:", (boosted, *of_words)),
            Explanation(part, "part, f / (k1 + f), from:", (frequency, k1)),
        )
    if isinstance(model, FormulaModel):
        known = {
            "cf": Explanation(cf, "cf, occurrences in all documents"),
            "T": Explanation(tokens, "T, tokens of all documents"),
            "df": Explanation(df[0][1], "df, documents with it") if len(df) == 1 else None,
            "N": counts[-1], "average": lengths[1],
        }  # fmt: skip
        used = [known[name] for name in _STATISTICS.get(type(model), tuple(known))]
        given = [
            Explanation(float(getattr(model, name)), label)
            for name, label in _PARAMETERS.items() if hasattr(model, name)
        ]  # fmt: skip
        shown = (occurrences, lengths[0], *(each for each in used if each is not None), *given)
        of_weight = counts if type(model) not in _STATISTICS else ()
        return (
            Explanation(weight, f"weight of {model}, from:", (boosted, *of_weight)),
            Explanation(part, f"part of {model}, from:", shown),
        )
    if not isinstance(model, BM25):
        return (
            Explanation(weight, f"weight of {model}, from:", (boosted, *counts)),
            Explanation(part, f"part of {model}, from:", (occurrences, *lengths)),
        )
    factors = _bm25_factors(model)
    product = boost
    for factor in factors:
        product *= factor.value
    formula = f"idf, {_idf_formula(model.variant, df)}, from:"
    # the float32 weight is the rounded product
    idf = Explanation(weight / product, formula, counts) if product else None
    saturation = "(k1 + δ)" if model.variant == "bm25l" else "k1"
    norm = [Explanation(model.k1, "k1, term-frequency saturation")]
    if model.variant == "bm25l":
        norm.append(Explanation(model.delta, "δ"))
    norm.append(Explanation(model.b, "b, length normalisation"))
    how = f"part, tf / (tf + {saturation} · (1 - b + b · length / average)), from:"
    return (
        Explanation(
            weight, "weight, product of:", (boosted, *([idf] if idf else ()), *factors)
        ),
        Explanation(part, how, (occurrences, *norm, *lengths)),
    )  # fmt: skip


def field_details(
    field: str, value: float, *, tf: float, weight: float, b: float, length: float, average: float
) -> Explanation:
    """What the frequency in a field adds to the f of BM25F."""
    return Explanation(
        value, f"{field}, weight · tf / (1 - b + b · length / average), from:",
        (
            Explanation(tf, "tf, occurrences in the field"),
            Explanation(weight, "weight of the field"),
            Explanation(b, "b, length normalisation"),
            Explanation(length, "length of the field"),
            Explanation(average, "average, of the field in all documents"),
        ),
    )  # fmt: skip


def _idf_formula(variant: str, df: Sequence[tuple[str, int]]) -> str:
    return _IDF[variant] + (" summed over the words" if len(df) > 1 else "")


def _bm25_factors(model: BM25) -> list[Explanation]:
    """The factors of a weight of BM25 besides the boost and the idf."""
    if model.variant in ("lucene", "robertson"):
        return []
    factors = [Explanation(model.k1 + 1, "k1 + 1")]
    if model.variant == "bm25l" and model.k1 + model.delta:
        factors.append(Explanation(model.k1 / (model.k1 + model.delta), "k1 / (k1 + δ)"))
    return factors


def _number(value: float) -> str:
    """A number with as many digits as tell it from other float32 numbers, or from other float64
    ones where it is none of those."""
    single = np.float32(value)
    if float(single) == value:
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else str(single)
    return f"{value:.9g}"
