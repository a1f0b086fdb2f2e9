"""tantivy: queries made by hand from its analyzer's terms, and its query parser.

Prefixes and fuzzy words have a constant score in tantivy. A prefix is a regular expression, a fuzzy
word of distance 0 that is a prefix, or the set of its words. A condition is a clause of score 0:
a range of a fast field, or terms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tantivy

from bench.common.questions import Condition, Question
from bench.engines import fresh_folder
from bench.engines.query_engine import Counting, Plan, QueryEngine, batches_of
from bench.engines.tantivy_engine import analyzer

MUST, SHOULD, MUST_NOT = tantivy.Occur.Must, tantivy.Occur.Should, tantivy.Occur.MustNot
HEAP = 2_000_000_000
TYPES = {"price": tantivy.FieldType.Float, "year": tantivy.FieldType.Integer}

Make = Callable[[Question], Any]


class TantivyQueries(QueryEngine):
    name = "tantivy"

    def __init__(self, index: Any, words: Any) -> None:
        self.index, self.analyze = index, words.analyze
        self.searcher, self.schema = index.searcher(), index.schema

    def plans(self, kind: str) -> list[Plan]:
        search = self.searcher.search

        def plan(make: Make) -> Callable[[Question, int], Any]:
            return lambda question, k: search(make(question), limit=k, count=False)

        return [Plan(name, plan(make)) for name, make in self._makes(kind).items()]

    def counters(self, kind: str) -> list[Counting]:
        """Counting with the best hit, without scores, and as an aggregation."""
        search, aggregate = self.searcher.search, self.searcher.aggregate
        constant = tantivy.Query.const_score_query
        counted = {"n": {"value_count": {"field": "row"}}}
        makes = self._makes(kind)
        make = makes.get("terms", next(iter(makes.values())))
        return [
            Counting("limit 1", lambda q: search(make(q), limit=1, count=True).count),
            Counting("unscored", lambda q: search(constant(make(q), 1.0), limit=1).count),
            Counting("aggregation", lambda q: int(aggregate(make(q), counted)["n"]["value"])),
        ]

    def hits(self, answer: Any) -> tuple[Sequence[int], Sequence[float]]:
        addresses = [address for _, address in answer.hits]
        rows = self.searcher.fast_field_values("row", addresses)
        return rows, [score for score, _ in answer.hits]

    def _makes(self, kind: str) -> dict[str, Make]:
        parse, fuzzy = self.index.parse_query_lenient, tantivy.Query.fuzzy_term_query
        if kind == "phrase":
            return {"": self._phrase, "query parser": lambda q: parse(f'"{q.text}"', ["text"])[0]}
        if kind == "fuzzy":
            return {"": lambda q: fuzzy(self.schema, "text", q.text, q.edits)}
        if kind == "prefix":
            return {
                "regular expression": lambda q: tantivy.Query.regex_query(
                    self.schema, "text", f"{re.escape(q.text)}.*"
                ),
                "fuzzy": lambda q: fuzzy(self.schema, "text", q.text, 0, True, True),
            }
        if kind == "not":
            return {"": self._not}
        if kind == "filter":
            return {"fast field": self._by_range, "terms": self._by_terms}
        if kind == "and":
            return {"": lambda q: self._boolean(MUST, q.text)}
        return {
            "": lambda q: self._boolean(SHOULD, q.text),
            "query parser": lambda q: parse(q.text, ["text"])[0],
        }

    def _term(self, term: str) -> Any:
        return tantivy.Query.term_query(self.schema, "text", term, "freq")

    def _boolean(self, occur: Any, text: str) -> Any:
        terms = [(occur, self._term(term)) for term in self.analyze(text)]
        return tantivy.Query.boolean_query(terms)

    def _phrase(self, question: Question) -> Any:
        terms = [
            (at, term)
            for at, word in enumerate(question.text.split())
            for term in self.analyze(word)
        ]
        return tantivy.Query.phrase_query(self.schema, "text", terms)

    def _not(self, question: Question) -> Any:
        terms = [(SHOULD, self._term(term)) for term in self.analyze(question.text)]
        excluded = [(MUST_NOT, self._term(term)) for term in self.analyze(question.without)]
        return tantivy.Query.boolean_query(terms + excluded)

    def _by_range(self, question: Question) -> Any:
        return self._filtered(question, self._range(question.condition))

    def _by_terms(self, question: Question) -> Any:
        """As terms of the column where it has few values."""
        condition = question.condition
        assert condition is not None
        term, either = tantivy.Query.term_query, tantivy.Query.boolean_query
        values: list[Any] = list(condition.values)
        if condition.column == "year" and condition.low is not None:
            values = list(range(int(condition.low), int(condition.high or 2024)))
        if not values or len(values) > 10:
            return self._by_range(question)
        terms = [(SHOULD, term(self.schema, condition.column, value)) for value in values]
        return self._filtered(question, terms[0][1] if len(terms) == 1 else either(terms))

    def _range(self, condition: Condition | None) -> Any:
        assert condition is not None
        if condition.values:
            return tantivy.Query.term_set_query(
                self.schema, condition.column, list(condition.values)
            )
        kind = TYPES[condition.column]
        convert = float if condition.column == "price" else int
        low = None if condition.low is None else convert(condition.low)
        high = None if condition.high is None else convert(condition.high)
        return tantivy.Query.range_query(
            self.schema, condition.column, kind, low, high, True, high is None
        )

    def _filtered(self, question: Question, condition: Any) -> Any:
        scored = self._boolean(SHOULD, question.text)
        unscored = tantivy.Query.const_score_query(condition, 0.0)
        return tantivy.Query.boolean_query([(MUST, scored), (MUST, unscored)])


def open_engine(corpus: Path, folder: Path, analysis: str, threads: int) -> TantivyQueries:
    """One segment, with positions and fast fields."""
    tokenizer = tantivy.Tokenizer.regex(r"\w\w+")
    lower = tantivy.TextAnalyzerBuilder(tokenizer).filter(tantivy.Filter.lowercase()).build()
    words = analyzer(tokenizer) if analysis == "stems" else lower
    if not folder.exists():
        with fresh_folder(folder):
            build(corpus, folder, words)
    index = tantivy.Index.open(str(folder))
    index.register_tokenizer("words", words)
    return TantivyQueries(index, words)


def build(corpus: Path, folder: Path, words: Any) -> None:
    schema = (
        tantivy.SchemaBuilder()
        .add_integer_field("row", fast=True)
        .add_text_field("text", tokenizer_name="words", index_option="position")
        .add_float_field("price", fast=True, indexed=True)
        .add_integer_field("year", fast=True, indexed=True)
        .add_text_field("lang", tokenizer_name="raw", index_option="basic", fast=True)
    )
    index = tantivy.Index(schema.build(), path=str(folder))
    index.register_tokenizer("words", words)
    writer = index.writer(heap_size=HEAP, num_threads=1)
    for batch in batches_of(corpus, ["row", "text", "price", "year", "lang"]):
        for row, text, price, year, lang in zip(*batch.values(), strict=True):
            document = tantivy.Document()
            document.add_integer("row", row)
            document.add_text("text", text)
            document.add_float("price", price)
            document.add_integer("year", year)
            document.add_text("lang", lang)
            writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
