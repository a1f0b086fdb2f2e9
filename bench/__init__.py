"""Benchmarks, each a module: `python -m bench.NAME --data DATA` from the repository root.

`--help` lists the options of one; `--small` runs it on generated data within seconds, which the
tests do for all of them. DATA is a folder laid out as in bench/common/small.py. A package to
compare with that is not installed is skipped, with a line on stderr. A benchmark checks results
before it times anything, runs the contenders in alternation in one process, and writes a report to
bench/out. RESULTS.md has the figures and the command for each; `make bench-all` runs all of those.
"""

import os

# each process would compile fastseq's modules, which an installation has compiled, for 0.2 s
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# OpenBLAS reads it when NumPy is imported, which has not happened yet: no contender runs with it
os.environ.pop("OPENBLAS_CORETYPE", None)
