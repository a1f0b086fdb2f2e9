"""Parameters that models of different families have in common, declared once."""

from __future__ import annotations

from fastseq.estimator import SEED, THREADS, BaseEstimator, Flag, Instance, Size, Whole, parameter
from fastseq.text.analyzer import Analyzer


class ModelParameters(BaseEstimator):
    """Of every model."""

    seed: int = parameter(default=0, check=SEED, help="Random seed.", section="Training")
    threads: int | None = parameter(
        default=None, check=THREADS, help="Number of threads.", none="all cores", run=True
    )
    memory: str | int = parameter(
        default="1GB", check=Size(), section="Training", run=True, metavar="SIZE",
        help="Working memory for the data, such as 256MB.", notes="More goes to temporary files.",
    )  # fmt: skip


class WordParameters(ModelParameters):
    """Of models that have a vector for each word."""

    dimensions: int = parameter(default=100, check=Whole(1, 1 << 16), help="Embedding dimensions.")
    min_count: int = parameter(
        default=5, check=Whole(1), help="Minimum occurrences of a word in the vocabulary."
    )
    epochs: int = parameter(
        default=5, check=Whole(1), help="Passes over the training data.", section="Training"
    )
    analyzer: Analyzer | None = parameter(
        default=None, check=Instance(Analyzer), help="Analyzer that splits text into words.",
        none="Analyzer()",
    )  # fmt: skip
    skip_bad_lines: bool = parameter(
        default=False, check=Flag(), run=True,
        help="Skip damaged lines of the file of vectors to start from.",
    )  # fmt: skip


class SubwordParameters(WordParameters):
    """Of models that have vectors of n-grams too."""

    min_n: int = parameter(
        default=3, check=Whole(0), help="Minimum character n-gram length.", aliases=("low",),
        notes='"<" and ">" around a word count.',
    )  # fmt: skip
    max_n: int = parameter(
        default=6, check=Whole(0), help="Maximum character n-gram length; 0 for no n-grams.",
        aliases=("high",),
    )  # fmt: skip
    buckets: int = parameter(
        default=2_000_000, check=Whole(1), help="Hash buckets for n-grams.",
        notes="Only those in use take memory.",
    )  # fmt: skip
