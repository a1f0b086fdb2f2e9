"""Index and search a pandas data frame (needs `pip install pandas`)."""

from __future__ import annotations

import tempfile

import pandas as pd

import fastseq

frame = pd.DataFrame(
    {
        "id": ["a1", "a2", "a3", "a4"],
        "year": [2019, 2020, 2021, 2021],
        "text": [
            "Cats sleep for most of the day.",
            "A cat purrs when it is content.",
            "Dogs bark at strangers.",
            "Sleeping dogs do not bark.",
        ],
    }
)

with tempfile.TemporaryDirectory() as folder:
    analyzer = fastseq.Analyzer(stopwords="lucene", stemmer="english")
    index = fastseq.Index.build(frame, f"{folder}/index", analyzer=analyzer)
    for hit in index.search("sleeping cats", k=3).to_dicts():
        print(hit["rank"], hit["id"], f"{hit['score']:.3f}", hit["fields"]["text"])

    # many queries at once: arrays of row numbers and scores, which index the frame
    hits = index.search(["dogs", "purring cat"], k=2)
    for query, rows in zip(["dogs", "purring cat"], hits.rows, strict=True):
        print(query, frame.iloc[rows[rows >= 0]]["id"].tolist())
