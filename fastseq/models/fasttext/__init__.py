"""fastText: word vectors with character n-grams, and the classifier of texts."""
