"""Documents and queries in many languages match whatever their normal form, width and case."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq import Analyzer, Index
from fastseq.errors import SettingsError

DATA = Path(__file__).resolve().parents[2] / "data" / "languages"


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


FORMS: dict[str, Callable[[str], str]] = {
    "composed": lambda text: unicodedata.normalize("NFC", text),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "full width": full_width,
    "upper case": str.upper,
}
TURKIC = ("Azerbaijani", "Turkish")


def changed(text: str, form: str, language: str) -> str:
    if form == "upper case" and language in TURKIC:
        text = text.replace("i", "İ").replace("ı", "I")
    return FORMS[form](text)


def analyzer_of(language: str) -> Analyzer:
    try:
        return Analyzer.for_language(language.lower())
    except SettingsError:  # a language without stop words, stems and rules
        return Analyzer()


ROWS = pq.read_table(DATA / "docs.parquet").to_pylist()
QUERIES = {
    row["doc_id"]: row["text"] for row in pq.read_table(DATA / "queries.parquet").to_pylist()
}


def test_there_are_thirty_languages() -> None:
    assert len(ROWS) == len(QUERIES) >= 30


@pytest.mark.parametrize("row", ROWS, ids=[row["language"] for row in ROWS])
def test_document_is_found_in_every_form(row: dict[str, str], tmp_path: Path) -> None:
    language = row["language"]
    analyzer = analyzer_of(language)
    for of_documents in FORMS:
        texts = [changed(each["text"], of_documents, each["language"]) for each in ROWS]
        table = pa.table({"id": [each["id"] for each in ROWS], "text": texts})
        index = Index.build(table, tmp_path / of_documents, analyzer=analyzer)
        for of_query in FORMS:
            query = changed(QUERIES[row["id"]], of_query, language)
            hits = index.search(query, k=2)
            assert hits.ids[0][:1] == [row["id"]], (of_documents, of_query)
