"""Explanations of the scores of hits, from the clauses of a query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq import query as values
from fastseq.search.bm25f import FieldCounter
from fastseq.search.clauses import ConstantClause, ListClause, PostingList, SumClause
from fastseq.search.evaluation import Scored, plan_of
from fastseq.search.explanation import (
    Explanation,
    ScoredLeaf,
    addition_order,
    explain_sum,
    field_details,
    leaf_details,
)
from fastseq.search.ranking import RankingModel
from fastseq.search.resolving import MOST_WORDS, Resolver

if TYPE_CHECKING:
    from fastseq.search.searcher import Searcher


def explain(
    searcher: Searcher, query: values.Query, row: int, model: RankingModel,
    fields: Mapping[str, float] | None, operator: str, most: int | None = MOST_WORDS,
) -> Explanation:  # fmt: skip
    """The score of a row as a tree; its value has the bits of the score of a search. 0, without
    details, for a document that does not match. `most` and errors are as of
    Searcher.find."""
    clause = Resolver(searcher, model, fields, operator, most=most).resolve(query)
    no_match = Explanation(0.0, "the document does not match the query")
    if clause is None:
        return no_match
    plan, evaluator = plan_of(clause), searcher.evaluator(model)
    if not evaluator.matched(plan)[row]:
        return no_match
    leaves = searcher.collection.leaves
    s = int(np.searchsorted([leaf.first_row for leaf in leaves], row, "right")) - 1
    local = row - leaves[s].first_row
    weights, base = evaluator.weights(plan)
    rows, parts = evaluator.lists(plan, s)
    found = []
    for i in addition_order(weights):
        at = int(np.searchsorted(rows[i], local))
        if at == len(rows[i]) or rows[i][at] != local:
            continue
        weight, part = float(weights[i]), float(parts[i][at])
        details = _details(plan.scored[i], s, local, model, weight, part)
        found.append(ScoredLeaf(_described(plan.scored[i]), weight, part, details))
    return explain_sum(found, base)


def _details(
    scored: Scored, s: int, row: int, model: RankingModel, weight: float, part: float
) -> tuple[Explanation, ...]:
    clause = scored.clause
    boost = scored.boost * scored.count
    if isinstance(clause, ConstantClause):
        return (
            Explanation(clause.score, "constant score"),
            Explanation(scored.boost, "boost"),
        )
    view = clause.view
    own = clause.list(s)
    tf = float(own.tfs[np.searchsorted(own.rows, row)])
    lengths = view.leaves[s].segment.lengths
    return leaf_details(
        model, weight, part, tf=tf, length=float(lengths[row]),
        average=view.tokens / max(view.documents, 1), documents=view.documents,
        df=[(_name(word), word.df) for word in clause.words], boost=boost,
        cf=clause.cf if model.uses_cf else 0.0, tokens=view.tokens,
        fields=_fields(clause, s, row),
    )  # fmt: skip


def _fields(clause: ListClause, s: int, row: int) -> list[Explanation]:
    """Of BM25F, what the frequency of a clause in each field adds to its f in a document."""
    found = []
    counters = clause.values or () if isinstance(clause, SumClause) else ()
    for part, counter in zip(clause.parts if counters else (), counters, strict=True):  # type: ignore[attr-defined]
        own = part.list(s)
        at = int(np.searchsorted(own.rows, row))
        if at < len(own.rows) and own.rows[at] == row and isinstance(counter, FieldCounter):
            one = PostingList(own.rows[at : at + 1], own.tfs[at : at + 1])
            found.append(field_details(
                counter.field, float(counter(s, one)[0]), tf=float(own.tfs[at]),
                weight=counter.weight, b=counter.b, average=counter.average,
                length=float(counter.view.leaves[s].segment.lengths[row]),
            ))  # fmt: skip
    return found


def _described(scored: Scored) -> str:
    clause = scored.clause
    if isinstance(clause, ConstantClause):
        return "constant"
    where = "" if clause.view.field is None else f" in {clause.view.field}"
    return f"{_name(clause)}{where}"


def _name(clause: ListClause) -> str:
    """A clause as text."""
    order: tuple[Any, ...] = clause.order
    if isinstance(clause, SumClause) and not order:
        return _name(clause.parts[0])
    if order[0] == 0:
        return repr(order[1].decode("utf-8", "replace"))
    kind, what = order[1], order[2]
    if kind == "phrase":
        return f'the phrase "{" ".join(what)}"'
    if kind == "near":
        return f"{' and '.join(what)} within {order[3]}"
    if kind == "synonyms":
        return f"any of {', '.join(what)}"
    return f"{kind.lower()} {what}"
