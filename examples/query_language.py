"""A tour of the query language: what can be asked of an index, and what is in its answers."""

from __future__ import annotations

import tempfile

import fastseq
from fastseq.query import Boolean, Near, Phrase, Prefix

BOOKS = [
    ("War and Peace", "A novel about Russia at war with Napoleon.", "ru", 1869),
    ("All Quiet on the Western Front", "Soldiers at war, in the trenches.", "de", 1929),
    ("The War of the Worlds", "Machines from Mars wage war on England.", "en", 1898),
    ("Twenty Thousand Leagues", "A submarine at war with every navy.", "fr", 1870),
    ("A Room with a View", "A novel of manners, at peace in Florence.", "en", 1908),
    ("The Time Machine", "A traveller visits the far future of England.", "en", 1895),
]
books = [
    {"id": n, "title": title, "text": text, "language": language, "year": year}
    for n, (title, text, language, year) in enumerate(BOOKS)
]

QUERIES = {
    "words": "war peace",
    "phrase": '"at war"',
    "phrase with slop": '"war england"~2',
    "required, prohibited": "+war -novel",
    "prefix": "mach*",
    "two edits": "submarin~ napolean~",
    "regular expression": "/(trench|terrac)es/",
    "in a field": "title:war",
    "range of a column": "war AND year:[1865 TO 1900]",
    "values": Boolean(must=[Phrase("at war")], should=[Prefix("nap")]),
    "near": Near(["machines", "war"], distance=3, in_order=True),
}

with tempfile.TemporaryDirectory() as folder:
    index = fastseq.Index.build(books, f"{folder}/index", fields=["title", "text"])
    for name, query in QUERIES.items():
        hits = index.search(query, syntax="query")
        print(name.ljust(22), str(query).ljust(34), *(BOOKS[n][0] for n in hits.ids[0]), sep=" | ")

    print("\nEnglish books, titles counted three times; matches by language and half century:")
    weights = {"title": 3.0, "text": 1.0}
    hits = index.search("war england", fields=weights, filter="language = 'en'")
    print([(hit["fields"]["title"], round(hit["score"], 3)) for hit in hits.to_dicts()])
    hits = index.search("war england", facets=["language", "year:50"])
    for facet in hits.facets[0].values():
        print(facet.column, dict(zip(facet.values, facet.counts.tolist(), strict=True)))

    print("\nSnippet and explanation of the best hit:")
    hits = index.search('"wage war" england', syntax="query", k=1)
    print(hits.snippets()[0].html())
    print(hits.explain())

    print("\nSuggestions, completion, and documents like another:")
    print(index.suggest("machne"), index.complete("war of the wor"))
    print([BOOKS[n][0] for n in index.more_like(2, k=2, min_df=1).ids[0]])
