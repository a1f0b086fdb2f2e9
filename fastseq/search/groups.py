"""Groups of terms that are searched for as one term.

A single character of a script that is indexed as bigrams is found in every bigram that contains it:
its occurrences in a document are the bigrams that it begins or, where these are more, ends, and
those in which it is alone. (A character inside of a run begins one bigram and ends another.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastseq.index.collection import Collection, Leaf, occurrences
from fastseq.kernels.search.groups import ALONE, BEGINS, ENDS, merge_group
from fastseq.kernels.search.postings import LARGE_TF, WINDOW, Postings, count_live, frequencies
from fastseq.text.analyzer import Analyzer
from fastseq.text.splitting import HAN, Splitter, splitter_of
from fastseq.types import Int32, Texts, UInt8, distinct, offsets_of


@dataclass(frozen=True, eq=False)
class TermGroup:
    """Terms that are searched for as one.

    postings  of each segment: its merged postings, as an index of one term
    df        documents with any of the terms, that are not deleted
    """

    postings: tuple[Postings, ...]
    df: int

    def occurrences(self, collection: Collection) -> int:
        """The occurrences of the terms in documents that are not deleted."""
        only = np.zeros(1, np.int32)
        both = zip(collection.leaves, self.postings, strict=True)
        return sum(int(occurrences(own, leaf.live, only)[0]) for leaf, own in both)


def has_character_groups(analyzer: Analyzer) -> bool:
    """Whether an index has bigrams of scripts, in which single characters are looked for."""
    tokenizes = analyzer.tokenizer in ("unicode", "word")
    return tokenizes and analyzer.cjk != "none" and not analyzer.has_ngrams


def lone_characters(splitter: Splitter, terms: Sequence[str]) -> list[bool]:
    """Of each term whether it is a single character (grapheme cluster) of a script indexed as
    bigrams. Han and kana are not where they are segmented into words."""
    scripts = splitter.scripts([term or "a" for term in terms]).tolist()
    words = HAN if splitter.analyzer.segments else 0
    candidates = [script not in (0, words) for script in scripts]
    if not any(candidates):
        return candidates
    # twice the same character is one bigram; two are three
    doubled = [term + term if found else "" for term, found in zip(terms, candidates, strict=True)]
    counts = np.diff(splitter.split(Texts.from_strings(doubled)).ends).tolist()
    return [found and count == 1 for found, count in zip(candidates, counts, strict=True)]


def character_group(collection: Collection, character: str) -> TermGroup:
    """The group of a single character. Raises FormatError for damaged postings."""
    splitter = splitter_of(collection.analyzer)
    postings, df = [], 0
    for leaf in collection.leaves:
        terms, roles = character_terms(leaf, splitter, character)
        merged = _merged(leaf, terms, roles)
        postings.append(merged)
        if leaf.live is None:
            df += len(merged.docs)
        else:
            live = np.zeros(1, np.int64)
            count_live(live, merged, leaf.live, np.zeros(1, np.int32))
            df += int(live[0])
    return TermGroup(tuple(postings), df)


def character_terms(leaf: Leaf, splitter: Splitter, character: str) -> tuple[Int32, UInt8]:
    """The terms of a segment that are the character or bigrams with it, and their roles; one that
    it begins and ends has both."""
    vocabulary = leaf.segment.vocabulary
    wanted = character.encode()
    raw, at = vocabulary.data.tobytes(), -1
    places = []
    while (at := raw.find(wanted, at + 1)) >= 0:
        places.append(at)
    ids = distinct(np.searchsorted(vocabulary.offsets, places, "right") - 1)
    words = [
        raw[a:b].decode()
        for a, b in zip(
            vocabulary.offsets[ids].tolist(), vocabulary.offsets[ids + 1].tolist(), strict=True
        )
    ]
    found: list[tuple[int, int]] = []
    for role, others in (
        (BEGINS, [w.removeprefix(character) if w.startswith(character) else "" for w in words]),
        (ENDS, [w.removesuffix(character) if w.endswith(character) else "" for w in words]),
    ):
        single = lone_characters(splitter, others)
        found += [(int(id), role) for id, one in zip(ids, single, strict=True) if one]
    found += [(int(id), ALONE) for id, word in zip(ids, words, strict=True) if word == character]
    terms = np.array([term for term, _ in found], np.int32)
    return terms, np.array([role for _, role in found], np.uint8)


def _merged(leaf: Leaf, terms: Int32, roles: UInt8) -> Postings:
    segment = leaf.segment
    segment.verify_postings(terms)
    most = int(segment.df[terms].sum())
    docs, tfs = np.empty(most, np.uint16), np.empty(most, np.uint8)
    large_at = np.empty(most, np.int64)
    large_tf = np.empty(most, np.int32)
    run_window, run_count = np.empty((2, segment.windows), np.uint16)
    postings, runs, larges = merge_group(
        docs, tfs, large_at, large_tf, run_window, run_count, np.zeros((3, WINDOW), np.int32),
        np.empty(len(terms), np.int64), np.empty(len(terms), np.int64), segment.postings, terms,
        roles, segment.windows,
    )  # fmt: skip
    return Postings(
        docs[:postings].copy(), tfs[:postings].copy(), np.array([0, postings], np.int64),
        np.array([0, runs], np.int64), run_window[:runs].copy(), run_count[:runs].copy(),
        large_at[:larges].copy(), large_tf[:larges].copy(),
    )  # fmt: skip


def gathered(postings: Postings, ids: Int32, others: Sequence[Postings | None]) -> Postings:
    """The postings of some terms as an index of their own, whose frequencies are not packed.

    ids     int32[n]  terms of `postings`, -1 for none
    others  of each term: postings of a single term instead, or None
    """
    parts = []
    for term, other in zip(ids.tolist(), others, strict=True):
        if other is not None:
            parts.append(other)
        elif term >= 0:
            parts.append(_term(postings, term))
        else:
            parts.append(_NOTHING)
    starts = offsets_of([len(part.docs) for part in parts])
    large_at = [part.large_at + start for part, start in zip(parts, starts, strict=False)]
    return Postings(
        np.concatenate([part.docs for part in parts]),
        np.concatenate([part.tfs for part in parts]),
        starts,
        offsets_of([len(part.run_window) for part in parts]),
        np.concatenate([part.run_window for part in parts]),
        np.concatenate([part.run_count for part in parts]),
        np.concatenate(large_at),
        np.concatenate([part.large_tf for part in parts]),
    )


def _term(postings: Postings, term: int) -> Postings:
    first, last = postings.term_posting[term : term + 2].tolist()
    run, last_run = postings.term_run[term : term + 2].tolist()
    tfs = np.empty(last - first, np.int32)
    frequencies(tfs, postings, first)
    large_at = np.flatnonzero(tfs >= LARGE_TF)
    return Postings(
        postings.docs[first:last], np.minimum(tfs, LARGE_TF).astype(np.uint8),
        np.array([0, last - first]), np.array([0, last_run - run]),
        postings.run_window[run:last_run], postings.run_count[run:last_run],
        large_at, tfs[large_at],
    )  # fmt: skip


_NOTHING = Postings(
    np.empty(0, np.uint16), np.empty(0, np.uint8), np.zeros(2, np.int64), np.zeros(2, np.int64),
    np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.int64), np.empty(0, np.int32),
)  # fmt: skip
