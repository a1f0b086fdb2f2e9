"""Ranking models by name."""

from __future__ import annotations

from typing import Any

from fastseq.errors import SettingsError
from fastseq.search.bm25f import BM25F
from fastseq.search.ranking import (
    BM25,
    DPH,
    PL2,
    TFIDF,
    BoW,
    Dirichlet,
    Dot,
    JelinekMercer,
    RankingModel,
)
from fastseq.settings import one_of
from fastseq.text.weighting import MODELS

_CLASSES: dict[str, type[RankingModel]] = {
    "bm25f": BM25F, "tfidf": TFIDF, "bow": BoW, "dirichlet": Dirichlet, "jm": JelinekMercer,
    "dph": DPH, "pl2": PL2, "dot": Dot,
}  # fmt: skip


def model_by_name(name: str, **parameters: Any) -> RankingModel:
    """The model of that name; parameters that are None have their defaults.

    Raises SettingsError for an unknown name or parameter, or a value outside its range.
    """
    one_of("model", name, MODELS)
    given = {key: value for key, value in parameters.items() if value is not None}
    for key in given:
        if key not in MODELS[name]:
            others = ", ".join(other for other in MODELS if key in MODELS[other])
            raise SettingsError(f"{key} is a parameter of {others}, not of {name}")
    if name in _CLASSES:
        return _CLASSES[name](**given)
    return BM25(**given, variant="lucene" if name == "bm25" else name)
