"""Word vectors: their neighbours, analogies and evaluation, and the folder they are kept in.

vectors = fastseq.WordVectors.load("my-vectors")
vectors.neighbors("cat", k=3)
vectors.analogy("man", "king", "woman")
"""
