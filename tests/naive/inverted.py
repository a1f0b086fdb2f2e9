"""An inverted index by definition, and format version 1 read back by its description.

Documents are lists of tokens. Nothing of fastseq is imported.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WINDOW = 65_536


@dataclass
class Inverted:
    """terms by id, each term's (document, frequency) pairs, and each document's length."""

    terms: list[str]
    postings: list[list[tuple[int, int]]]
    lengths: list[int]


def invert(levels: Sequence[Sequence[Sequence[str]]]) -> Inverted:
    """The index of D documents, given the tokens of each for every n-gram level.

    Terms are numbered by their first occurrence, level after level.
    """
    terms: list[str] = []
    postings: list[list[tuple[int, int]]] = []
    lengths = [0] * len(levels[0])
    for documents in levels:
        ids: dict[str, int] = {}
        for row, tokens in enumerate(documents):
            lengths[row] += len(tokens)
            for token in tokens:
                if token not in ids:
                    ids[token] = len(terms)
                    terms.append(token)
                    postings.append([])
            for token, count in Counter(tokens).items():
                postings[ids[token]].append((row, count))
    return Inverted(terms, postings, lengths)


def read(folder: Path) -> Inverted:
    """The index in a folder, every invariant of its format checked on the way."""
    manifest = json.loads((folder / "manifest.json").read_text("ascii"))
    assert manifest["kind"] == "index"
    assert manifest["format_version"] == 1
    arrays = {}
    for path, entry in manifest["files"].items():
        raw = (folder / path).read_bytes()
        assert len(raw) == entry["bytes"]
        assert zlib.crc32(raw) == entry["crc32"]
        if "dtype" in entry:
            arrays[path.partition("/")[2]] = np.frombuffer(raw, entry["dtype"])
    names = {path.partition("/")[2] for path in manifest["files"]} - {"documents.parquet"}
    assert names == {
        "posting_docs", "posting_tfs", "run_windows", "run_counts", "large_at", "large_tfs",
        "term_runs", "term_bytes", "term_lengths", "term_slots", "document_lengths",
    }  # fmt: skip
    for name in ("term_runs", "term_lengths", "document_lengths"):
        largest = int(arrays[name].max(initial=0))
        assert arrays[name].dtype == np.min_scalar_type(largest)  # the narrowest that fits
    raw_terms = arrays["term_bytes"].tobytes()
    ends = np.cumsum(arrays["term_lengths"], dtype=np.int64).tolist()
    terms = [raw_terms[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
    assert len(raw_terms) == (ends[-1] if ends else 0)
    lengths = arrays["document_lengths"].tolist()
    large = dict(zip(arrays["large_at"].tolist(), arrays["large_tfs"].tolist(), strict=True))
    assert list(large) == sorted(large)
    docs, tfs = arrays["posting_docs"].tolist(), arrays["posting_tfs"].tolist()
    assert [at for at, tf in enumerate(tfs) if tf == 255] == list(large)
    windows, counts = arrays["run_windows"].tolist(), arrays["run_counts"].tolist()
    postings = []
    at = run = 0
    for runs in arrays["term_runs"].tolist():
        own = windows[run : run + runs]
        assert own == sorted(set(own))
        found = []
        for window, count in zip(own, counts[run : run + runs], strict=True):
            rows = docs[at : at + count + 1]
            assert rows == sorted(set(rows))
            for i, row in enumerate(rows, at):
                found.append((window * WINDOW + row, large.get(i, tfs[i])))
            at += count + 1
        postings.append(found)
        run += runs
    assert at == len(docs) == len(tfs)
    assert run == len(windows) == len(counts)
    slots = arrays["term_slots"].tolist()
    assert len(slots) & (len(slots) - 1) == 0
    assert sorted(slot for slot in slots if slot) == [*range(1, len(terms) + 1)]
    assert len(slots) > len(terms)
    assert manifest["statistics"] == {
        "documents": len(lengths),
        "terms": len(terms),
        "postings": len(docs),
        "tokens": sum(lengths),
    }
    return Inverted(terms, postings, lengths)
