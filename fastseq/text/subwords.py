"""Character n-grams of words, hashed into buckets as fastText does."""

from __future__ import annotations

from dataclasses import dataclass

from fastseq.errors import SettingsError
from fastseq.kernels.text.ngrams import bucket_ids
from fastseq.settings import whole
from fastseq.types import Texts, Tokens


@dataclass(frozen=True, slots=True)
class Subwords:
    """The character n-grams of words, and the number of buckets they are hashed into.

    min_n, max_n  code points of an n-gram, "<" and ">" around the word included; 0 for either
                  (fastText's maxn 0): no n-grams, and both become 0
    buckets       may be 0 only without n-grams

    Raises SettingsError where these are not whole numbers, `min_n` is above `max_n`, or there are
    n-grams but no buckets.
    """

    min_n: int = 3
    max_n: int = 6
    buckets: int = 2_000_000

    def __post_init__(self) -> None:
        low, high = whole("min_n", self.min_n, 0), whole("max_n", self.max_n, 0)
        if not low or not high:
            low = high = 0
        if low > high:
            raise SettingsError(
                f"min_n is {low} and max_n {high}: expected min_n to be no more than max_n"
            )
        object.__setattr__(self, "min_n", low)
        object.__setattr__(self, "max_n", high)
        object.__setattr__(self, "buckets", whole("buckets", self.buckets, 1 if high else 0))

    def ids(self, words: Texts) -> Tokens:
        """The buckets of each word's n-grams, int32 in [0, buckets), exactly as fastText's.

        An n-gram is a run of min_n to max_n code points of "<word>", but not "<" or ">" alone; its
        bucket is the 32-bit FNV-1a hash of its UTF-8 bytes, each sign-extended, modulo `buckets`
        (Bojanowski et al. 2017, section 3). They are sorted by where they begin, then by length,
        with repetitions. "</s>", with which fastText ends a line, has none.
        """
        return Tokens(*bucket_ids(words.data, words.offsets, self.min_n, self.max_n, self.buckets))
