"""Training of word vectors: Word2Vec and GloVe; FastText is in models/fasttext."""
