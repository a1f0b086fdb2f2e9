"""Remakes the Parquet files of data/ from the hand-written text beside them.

    python data/make.py [FOLDER]

Every NAME.tsv (a header, then one row a line) becomes NAME.parquet in the same place, or below
FOLDER. A column of whole numbers becomes one of integers; every other column is text.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastseq.store.parquet import write_columns

HERE = Path(__file__).resolve().parent


def columns_of(source: Path) -> dict[str, list[object]]:
    """The columns of a TSV file, by name."""
    header, *rows = (line.split("\t") for line in source.read_text("utf-8").splitlines())
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise SystemExit(f"{source}:{number}: {len(row)} cells, expected {len(header)}")
    columns: dict[str, list[object]] = {}
    for c, name in enumerate(header):
        cells = [row[c] for row in rows]
        whole = all(cell.isdecimal() for cell in cells)
        columns[name] = [int(cell) for cell in cells] if whole else list(cells)
    return columns


def make(target: Path = HERE) -> list[Path]:
    """Write every set below `target` and return the files written."""
    written = []
    for source in sorted(HERE.glob("*/*.tsv")):
        path = target / source.parent.name / f"{source.stem}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_columns(path, columns_of(source))
        written.append(path)
    return written


if __name__ == "__main__":
    for path in make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE):
        print(path)
