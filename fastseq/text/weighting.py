"""The parameters of the ranking models, some of them of features too, and BM25's idf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastseq.errors import SettingsError
from fastseq.estimator import Check, Choice, Real, parameter, valid_parameters
from fastseq.types import Float64, Int64

LARGEST = 1_000_000  # of k1 and delta: far more would not fit a float32 score


@dataclass(frozen=True)
class BM25Parameters:
    """The parameters of BM25. Raises SettingsError for a value outside its range."""

    VARIANTS: ClassVar[tuple[str, ...]] = ("lucene", "robertson", "atire", "bm25+", "bm25l")

    k1: float = parameter(
        default=1.2, check=Real(least=0, most=LARGEST), help="Term-frequency saturation (k1)."
    )
    b: float = parameter(
        default=0.75, check=Real(least=0, most=1), help="Length normalisation (b)."
    )
    delta: float = parameter(
        default=0.5, check=Real(least=0, most=LARGEST),
        help="Lower bound of one occurrence (delta), in bm25+ and bm25l.",
    )  # fmt: skip
    variant: str = parameter(default="lucene", check=Choice(VARIANTS), help="Formula of a term.")

    def __post_init__(self) -> None:
        valid_parameters(self)


class Smart(Check):
    """The weighting of documents and queries in SMART notation."""

    LETTERS = ("nlbL", "ntp", "nc", ".", "nlabL", "ntp", "nc")

    def __call__(self, name: str, value: Any) -> Any:
        fits = isinstance(value, str) and len(value) == len(self.LETTERS)
        if not fits or any(c not in some for c, some in zip(value, self.LETTERS, strict=True)):
            raise SettingsError(
                f"{name} must be like ltc.lnc, tf from n l b L (query also a), df from n t p, norm "
                f"from n c, not {value!r}"
            )
        return value


@dataclass(frozen=True)
class TFIDFParameters:
    """The parameters of TF-IDF. Raises SettingsError for other letters."""

    smart: str = parameter(
        default="ltc.lnc", check=Smart(), metavar="ddd.qqq", help="Weighting in SMART notation."
    )

    def __post_init__(self) -> None:
        valid_parameters(self)


@dataclass(frozen=True)
class DirichletParameters:
    """The parameter of Dirichlet smoothing. Raises SettingsError for a value outside its range."""

    mu: float = parameter(
        default=2000, check=Real(least=1, most=LARGEST),
        help="Prior (mu): tokens of the collection model added to those of a document.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        valid_parameters(self)


@dataclass(frozen=True)
class JelinekMercerParameters:
    """The parameter of Jelinek–Mercer smoothing. Raises SettingsError for a value outside its
    range."""

    lam: float = parameter(
        default=0.1, check=Real(least=0.001, most=1), flag="lambda",
        help="Weight of the collection model (lambda), smaller for short queries.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        valid_parameters(self)


@dataclass(frozen=True)
class PL2Parameters:
    """The parameter of PL2. Raises SettingsError for a value outside its range."""

    c: float = parameter(
        default=1.0, check=Real(least=0.01, most=LARGEST),
        help="Length normalisation (c): a larger one penalises long documents less.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        valid_parameters(self)


# the ranking models by name, with their parameters
MODELS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("bm25", "robertson", "atire"), ("k1", "b")),
    **dict.fromkeys(("bm25+", "bm25l"), ("k1", "b", "delta")),
    "bm25f": ("k1", "b"),
    "tfidf": ("smart",),
    "bow": (),
    "dirichlet": ("mu",),
    "jm": ("lam",),
    "dph": (),
    "pl2": ("c",),
    "dot": (),
}


def bm25_idf(documents: int, df: Int64) -> Float64:
    """Lucene's idf, ln(1 + (N - df + ½) / (df + ½)), of terms that are in df of N documents."""
    idf: Float64 = np.log1p((documents - df + 0.5) / (df + 0.5))
    return idf
