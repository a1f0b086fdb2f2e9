"""tantivy, through tantivy-py (https://github.com/quickwit-oss/tantivy-py).

k1 1.2 and b .75 are built in. It keeps a document's length in one byte, so its ranking differs a
little from the exact one: what is compared is how much of the true top k it finds. For searching,
one segment (its quickest), the reference's tokens, no positions, no count of the hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tantivy

from bench.common.reference import STOP_WORDS, Ranking, id_column, read_batches, read_texts
from bench.engines import Way, fresh_folder, run_as_program

HEAP = 256_000_000


def analyzer(tokenizer: Any) -> Any:
    return (
        tantivy.TextAnalyzerBuilder(tokenizer)
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.custom_stopword(list(STOP_WORDS)))
        .filter(tantivy.Filter.stemmer("english"))
        .build()
    )


class Tantivy:
    name = "tantivy"
    exact = False
    note = "Searcher.search, count=False, one segment; document lengths kept in one byte"

    def __init__(self, index: Any, words: Any) -> None:
        self.index, self.words = index, words
        self.searcher = index.searcher()

    def ways(self, queries: Sequence[str], k: int, threads: int) -> list[Way]:
        """Its query parser, and its analyzer with a Boolean query made by hand."""
        search, parse = self.searcher.search, self.index.parse_query_lenient
        boolean, term = tantivy.Query.boolean_query, tantivy.Query.term_query
        analyze, schema, should = self.words.analyze, self.index.schema, tantivy.Occur.Should

        def parsed() -> list[Any]:
            return [search(parse(q, ["text"])[0], limit=k, count=False) for q in queries]

        def by_hand() -> list[Any]:
            found = []
            for q in queries:
                terms = [(should, term(schema, "text", t, "freq")) for t in analyze(q)]
                found.append(search(boolean(terms), limit=k, count=False))
            return found

        def ranking(answers: list[Any]) -> Ranking:
            rows = np.full((len(answers), k), -1, np.int32)
            scores = np.zeros((len(answers), k), np.float32)
            for at, answer in enumerate(answers):
                hits = answer.hits
                addresses = [address for _, address in hits]
                rows[at, : len(hits)] = self.searcher.fast_field_values("row", addresses)
                scores[at, : len(hits)] = [score for score, _ in hits]
            return Ranking(rows, scores)

        return [
            Way(f"{self.name} (query parser)", parsed, ranking),
            Way(f"{self.name} (analyzer, Boolean query)", by_hand, ranking),
        ]


def open_engine(corpus: Path, column: str, folder: Path) -> Tantivy:
    words = analyzer(tantivy.Tokenizer.regex(r"\w\w+"))
    if not folder.exists():
        with fresh_folder(folder):
            schema = tantivy.SchemaBuilder().add_integer_field("row", fast=True)
            schema = schema.add_text_field("text", tokenizer_name="words", index_option="freq")
            index = tantivy.Index(schema.build(), path=str(folder))
            index.register_tokenizer("words", words)
            writer = index.writer(heap_size=2_000_000_000, num_threads=1)
            for row, text in enumerate(read_texts(corpus, column)):
                document = tantivy.Document()
                document.add_integer("row", row)
                document.add_text("text", text)
                writer.add_document(document)
            writer.commit()
            writer.wait_merging_threads()
    index = tantivy.Index.open(str(folder))
    index.register_tokenizer("words", words)
    return Tantivy(index, words)


def create(folder: Path, *options: str) -> Any:
    """An empty index with its own word splitter (`simple`), quicker than a regular expression. The
    id is stored and not indexed, which only a field of bytes allows: indexing half a million ids
    costs a tenth.

    options : "positions" stores them; "ids" indexes the id too, as deleting by it requires
    """
    folder.mkdir(parents=True, exist_ok=True)
    schema = tantivy.SchemaBuilder()
    if "ids" in options:
        schema = schema.add_text_field(
            "id", stored=True, tokenizer_name="raw", index_option="basic"
        )
    else:
        schema = schema.add_bytes_field("id", stored=True, indexed=False)
    kept = "position" if "positions" in options else "freq"
    schema = schema.add_text_field("text", tokenizer_name="words", index_option=kept)
    made = tantivy.Index(schema.build(), path=str(folder))
    made.register_tokenizer("words", analyzer(tantivy.Tokenizer.simple()))
    return made


def add_documents(writer: Any, names: Sequence[Any], texts: Sequence[Any], *options: str) -> None:
    """add_text is quicker than Document(**fields) and from_dict. options: those of `create`, and
    "replace", which deletes earlier documents with the same id first."""
    add, new = writer.add_document, tantivy.Document
    as_text, replace = "ids" in options, "replace" in options
    for name, text in zip(names, texts, strict=True):
        document = new()
        if replace:
            writer.delete_documents_by_term("id", str(name))
        if as_text:
            document.add_text("id", str(name))
        else:
            document.add_bytes("id", str(name).encode())
        document.add_text("text", text or "")
        add(document)


def index(corpus: Path, column: str, folder: Path, threads: int, *options: str) -> None:
    """A larger heap than 256 MB does not help."""
    writer = create(folder, *options).writer(heap_size=HEAP, num_threads=threads)
    ids = id_column(corpus)
    columns = [column] if ids is None else [column, ids]
    row = 0
    for batch in pq.ParquetFile(corpus).iter_batches(batch_size=10_000, columns=columns):
        texts = batch.column(column).to_pylist()
        names = range(row, row + len(texts)) if ids is None else batch.column(ids).to_pylist()
        row += len(texts)
        add_documents(writer, names, texts, *options)
    writer.commit()
    writer.wait_merging_threads()


def batches(
    corpus: Path, column: str, folder: Path, threads: int, size: str, number: str, *options: str
) -> None:
    """A new index, to which batches are added with a commit each. Its own threads merge segments
    meanwhile, and are waited for."""
    writer = create(folder, *options).writer(heap_size=HEAP, num_threads=threads)
    ids = id_column(corpus)
    for batch in read_batches(corpus, column, int(size), int(number)):
        names = batch[ids].to_pylist()
        add_documents(writer, names, batch[column].to_pylist(), *options)
        writer.commit()
    writer.wait_merging_threads()


def count(folder: Path) -> dict[str, int]:
    searcher = tantivy.Index.open(str(folder)).searcher()
    return {"documents": searcher.num_docs, "segments": searcher.num_segments}


if __name__ == "__main__":
    run_as_program(index, count, batches=batches)
