"""Any sequence of changes of an index gives the hits of a new index of the same documents, to the
bit, for a part of the queries those of the naive scorers, and the postings and positions of the
documents, of the text and of a field."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fastseq import Index
from fastseq.index import changes, merging
from tests import sampling
from tests.index import living
from tests.index.living import (
    ANALYZER,
    MODELS,
    WORDS,
    Documents,
    assert_holds,
    assert_near,
    assert_postings,
    assert_tidy,
    documents_of,
    fresh_hits,
    hits_of,
)

FIELD = "title"
STEPS = 50  # of a sequence
SEQUENCES = 200

ids = st.integers(0, 40)
texts = st.one_of(
    st.none(),
    st.lists(st.sampled_from([*WORDS, "all"]), max_size=8).map(" ".join),
    st.tuples(st.sampled_from(WORDS), st.sampled_from([14, 15, 16, 254, 255, 600])).map(
        lambda word: " ".join([word[0]] * word[1])
    ),
)
rows_of = st.lists(
    st.fixed_dictionaries(
        {"id": ids, "text": texts, FIELD: texts, "year": st.none() | st.integers(0, 9)}
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row["id"],
)
ids_of = st.lists(ids, min_size=1, max_size=12)
weights = st.sampled_from([-2.0, -1.0, -0.001, 0.0, 0.25, 1.0, 3.0])
words = st.sampled_from([*WORDS, "all", "never"])
queries = st.one_of(
    st.lists(words, max_size=6).map(" ".join), st.dictionaries(words, weights, max_size=5)
)
parts = st.lists(
    st.one_of(
        st.tuples(st.just("add"), rows_of),
        st.tuples(st.just("delete"), ids_of),
        st.tuples(st.just("compact"), st.none()),
    ),
    max_size=5,
)


def table_of(rows: list[Any]) -> pa.Table:
    field = pa.array([row[FIELD] for row in rows], pa.string())
    return living.table_of(rows).append_column(FIELD, field)


def built(rows: list[Any], path: Path, **settings: Any) -> Index:
    return Index.build(
        table_of(rows), path, text_columns="text", fields=FIELD, analyzer=ANALYZER, threads=1,
        **settings,
    )  # fmt: skip


class DiscardedError(Exception):
    """Ends a block of changes."""


class Machine(RuleBasedStateMachine):
    """documents  by definition
    held       an index opened at an earlier commit, with its documents
    checked    the collection whose postings were last compared
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        # merges after few changes, and additions of both sizes
        self.patch.setattr(merging, "FACTOR", 4)
        self.patch.setattr(merging, "SMALLEST", 3)
        self.patch.setattr(changes, "_FEW_ROWS", 6)
        self.patch.setattr("os.fsync", lambda handle: None)
        self.folder = Path(tempfile.mkdtemp(prefix="fastseq-machine-"))
        self.path = self.folder / "index"
        self.documents = Documents()
        self.held: tuple[Index, Documents] | None = None
        self.checked: Any = None

    def teardown(self) -> None:
        try:
            if self.path.exists():
                assert_holds(Index.open(self.path), self.documents)
                self.index.compact(threads=2)
                assert_holds(self.index, self.documents)
                assert_postings(self.index, self.documents, FIELD)
                assert_tidy(self.path)
                if len(self.documents):
                    fresh = built(self.documents.rows, self.folder / "fresh")
                    assert_postings(fresh, self.documents, FIELD)
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)

    @initialize(rows=rows_of)
    def build(self, rows: list[Any]) -> None:
        self.index = built(rows, self.path)
        self.documents.add(rows)

    @rule(rows=rows_of)
    def add(self, rows: list[Any]) -> None:
        found = self.index.add(table_of(rows), threads=2)
        replaced = self.documents.add(rows)
        nulls = sum(row["text"] is None for row in rows)
        assert (found["added"], found["replaced"]) == (len(rows), replaced)
        assert found["null_texts"] == nulls

    @rule(ids=ids_of)
    def delete(self, ids: list[int]) -> None:
        found = self.index.delete(ids)
        deleted = self.documents.delete(ids)
        assert (found["deleted"], found["unknown"]) == (deleted, len(set(ids)) - deleted)

    @rule(data=st.data())
    @precondition(lambda self: len(self.documents))
    def replace_some(self, data: st.DataObject) -> None:
        known = data.draw(
            st.lists(st.sampled_from(self.documents.ids), min_size=1, max_size=9, unique=True)
        )
        rows = [
            {"id": id, "text": data.draw(texts), FIELD: data.draw(texts), "year": None}
            for id in known
        ]
        assert self.index.add(table_of(rows), threads=1)["replaced"] == len(rows)
        self.documents.add(rows)

    @rule()
    def compact(self) -> None:
        self.index.compact(threads=1)
        assert len(self.index._collection.leaves) == (len(self.documents) > 0)

    @rule()
    def reopen(self) -> None:
        self.index = Index.open(self.path)

    @rule()
    def hold(self) -> None:
        self.held = Index.open(self.path), self.documents.copy()

    @rule(rows=rows_of)
    def rebuild(self, rows: list[Any]) -> None:
        self.index = built(rows, self.path, overwrite=True)
        self.documents = Documents(rows)

    @rule(parts=parts)
    def block(self, parts: list[tuple[str, Any]]) -> None:
        with self.index.writer(threads=1) as writer:
            self._change(writer, self.documents, parts)

    @rule(parts=parts)
    def discarded_block(self, parts: list[tuple[str, Any]]) -> None:
        try:
            with self.index.writer(threads=1) as writer:
                self._change(writer, self.documents.copy(), parts)
                raise DiscardedError
        except DiscardedError:
            pass
        assert not self.index.refresh()

    def _change(self, writer: Any, documents: Documents, parts: list[tuple[str, Any]]) -> None:
        expected = dict.fromkeys(("added", "replaced", "deleted", "unknown"), 0)
        for kind, given in parts:
            if kind == "add":
                writer.add(table_of(given))
                expected["added"] += len(given)
                expected["replaced"] += documents.add(given)
            elif kind == "delete":
                writer.delete(given)
                deleted = documents.delete(given)
                expected["deleted"] += deleted
                expected["unknown"] += len(set(given)) - deleted
            else:
                writer.compact()
        assert expected == {name: writer.summary[name] for name in expected}

    @rule(
        queries=st.lists(queries, min_size=1, max_size=4),
        model=st.sampled_from(MODELS),
        depths=st.lists(st.integers(1, 60), min_size=1, max_size=2),
        threads=st.sampled_from([1, 2]),
    )
    def search(self, queries: list[Any], model: Any, depths: list[int], threads: int) -> None:
        asked = {"models": [model], "queries": queries, "depths": depths}
        assert hits_of(self.index, threads=threads, **asked) == fresh_hits(
            self.documents.rows, **asked
        )
        for query in queries:
            weights = list(query.values()) if isinstance(query, Mapping) else [1.0]
            # the naive scorers are for weights of which a logarithm can be taken
            if len(self.documents) and all(weight >= 1 for weight in weights):
                assert_near(self.index, self.documents, query, depths[0], model)

    @rule()
    @precondition(lambda self: self.held is not None)
    def search_held(self) -> None:
        assert self.held is not None
        assert_holds(*self.held)
        assert_postings(*self.held, FIELD)

    @invariant()
    def holds_the_documents(self) -> None:
        if self.path.exists():
            assert len(self.index) == len(self.documents)
            assert documents_of(self.index) == self.documents.rows

    @invariant()
    def has_the_postings_of_the_documents(self) -> None:
        if self.path.exists() and self.checked is not self.index._collection:
            assert_postings(self.index, self.documents, FIELD)
            self.checked = self.index._collection


def test_changes_in_any_order_give_a_new_index() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=SEQUENCES if sampling.ALL else 5,
            stateful_step_count=STEPS,
            derandomize=not sampling.ALL,
            deadline=None,
            phases=set(Phase) if sampling.ALL else [Phase.generate],  # shrinking takes minutes
        ),
    )
