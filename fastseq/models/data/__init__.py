"""Rows of a corpus as ids, targets and ragged batches."""
