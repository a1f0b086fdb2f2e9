"""BERT: bidirectional transformer encoders, from checkpoints in Hugging Face's format."""
