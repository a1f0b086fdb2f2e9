"""The texts of documents, read from the stored columns of an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fastseq.store.documents import StoredDocuments
from fastseq.store.nested import count_at, top_level
from fastseq.store.rows import MAX_BYTES, Corpus
from fastseq.types import Int64, Texts

_ROWS = 4096  # that are read at a time


def are_stored(stored: StoredDocuments | None, columns: Sequence[str]) -> bool:
    """Whether text columns, which may be fields of structs, are stored."""
    return stored is not None and all(count_at(stored.schema, name) == 1 for name in columns)


def stored_texts(
    stored: StoredDocuments, rows: Int64, columns: Sequence[str], apart: bool
) -> Iterator[Texts]:
    """The texts of some rows, in batches, as a Corpus with these text columns has them.

    rows : int64[n]
    apart : the columns one by one, row after row, instead of joined

    Raises FormatError for a damaged file.
    """
    names = top_level(stored.schema, columns)
    for start in range(0, len(rows), _ROWS):
        table = stored.take(np.asarray(rows[start : start + _ROWS], np.int64), names, cached=False)
        for batch in Corpus.open(table, None, columns, []).batches(MAX_BYTES):
            yield batch.columns(range(len(columns))) if apart else batch.text
