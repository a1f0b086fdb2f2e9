"""Word vectors as values: neighbours, analogies, evaluation, documents, and their files.

vectors = fastseq.WordVectors.load("my-vectors")
vectors.neighbors("cat", k=3)
vectors.analogy("man", "king", "woman")
"""
