"""The arguments of `Index.search`: queries, models and what else is common to the searches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastseq import query as values
from fastseq.errors import SettingsError
from fastseq.index.collection import Collection
from fastseq.search.bm25f import BM25F
from fastseq.search.names import name_problem, searchable, stored_names
from fastseq.search.patterns import pattern_problem
from fastseq.search.ranking import BM25, Dot, RankingModel
from fastseq.search.searcher import MOST_HITS
from fastseq.search.syntax import as_words, parse

if TYPE_CHECKING:
    from fastseq.search.synonyms import SynonymMap

DEFAULT = BM25()
ONE = (str, values.Query, Mapping)  # types of one query, those first that cost less to test
_PADDED_HITS = 1 << 24  # k · queries up to which hits have k columns, though there are fewer


def query_list(query: Any) -> list[Any]:
    """One query or several as a list."""
    if isinstance(query, ONE):
        return [query]
    wrong = query
    if isinstance(query, Iterable) and not isinstance(query, bytes):
        queries = list(query)
        others = [each for each in queries if not isinstance(each, ONE)]
        if not others:
            return queries
        wrong = others[0]
    raise SettingsError(
        "a query must be a string, a mapping, a value of fastseq.query or a list of those, "
        f"not {wrong!r:.80}"
    )


def model_of(
    model: Any, weights: Mapping[str, float] | None, collection: Collection
) -> RankingModel:
    """The model of a search in the text or, with weights, in fields; None is the default."""
    if type(model) is BM25 and collection.impacts is None:
        return model  # the other tests cost more
    if model is None:
        if collection.impacts is not None:
            return Dot()
        return DEFAULT if weights is None else BM25F()
    if not isinstance(model, RankingModel):
        raise SettingsError(f"model must be a ranking model such as BM25(), not {model!r:.80}")
    if isinstance(model, BM25F) and weights is None:
        raise SettingsError("the model BM25F is for a search in fields=")
    if isinstance(model, Dot) != (collection.impacts is not None):
        if isinstance(model, Dot):
            raise SettingsError(
                "the model Dot is for an index of impacts; in one of texts BoW() is the dot "
                "product of term counts"
            )
        raise SettingsError(
            f"an index of impacts is searched with the model Dot, the dot product, not with {model}"
        )
    return model


def refuse_impacts(collection: Collection, what: str) -> None:
    """Raise SettingsError for an index of impacts."""
    if collection.impacts is not None:
        raise SettingsError(f"{what} is not for an index of impacts, which has no texts")


def least_depth(k: int, queries: int, collection: Collection) -> int:
    """k, or the number of documents where memory for k hits would be wasted."""
    most = max(collection.documents, 1)
    return most if most < k and _PADDED_HITS < k * queries <= MOST_HITS else k


def with_synonyms(query: Any, synonyms: SynonymMap, collection: Collection, operator: str) -> Any:
    from fastseq.search.synonyms import SynonymMap

    if not isinstance(synonyms, SynonymMap):
        raise SettingsError(f"synonyms must be a SynonymMap, not {synonyms!r:.80}")
    if isinstance(query, Mapping):
        return query
    value = values.Term(query) if isinstance(query, str) else query
    found = synonyms.apply(value, collection.analyzer, operator, collection.fields)
    return query if found == value else found


def parsed(query: Any, collection: Collection, operator: str, notices: list[str]) -> Any:
    """A query, where it is a string its value in the query syntax; plain text is unchanged."""
    if not isinstance(query, str):
        return query
    columns = stored_names(collection) if ":" in query else []
    found = parse(query, operator=operator, fields=searchable(collection), columns=columns)
    if not found.plain:
        problem = pattern_problem(found.query) or name_problem(found.query, collection)
        if problem is not None:
            found = as_words(query, operator, problem)
    if found.notice is not None:
        notices.append(found.notice)
    plain = found.plain and isinstance(found.query, values.Term)
    return found.query.text if plain else found.query  # type: ignore[attr-defined]
