"""What goes to disk and what comes from it: Parquet, index folders, TREC files.

Nothing is imported here: opening an index needs neither pyarrow nor what reads a corpus.
"""
