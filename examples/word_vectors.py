"""Train word vectors, ask for neighbours and analogies, and widen a search with them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import fastseq
from fastseq.samples import write_samples

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    write_samples(folder)  # documentation of the standard library as docs.parquet
    model = fastseq.Word2Vec(dimensions=64, epochs=10, seed=1, threads=1)
    model.fit(folder / "docs.parquet", text_column="text")
    words = model.vectors_
    print("socket:", [word for word, _ in words.neighbors("socket", k=5)])
    print("encode : encoder = decode :", words.analogy("encode", "encoder", "decode", k=1))

    words.save(folder / "vectors")  # a folder of ours
    words.export(folder / "vectors.txt")  # word2vec's text format, for other programs

    index = fastseq.Index.build(folder / "docs.parquet", folder / "index")
    expand = fastseq.Expander(words, terms=3, weight=0.1)
    print("plain:   ", index.search("network connection", k=3).ids[0])
    print("expanded:", index.search("network connection", k=3, expand=expand).ids[0])
