"""Makes the golden indexes of impacts, of the format version that this fastseq writes.

    python tests/golden/impacts/make.py [FOLDER]

They are written once for each version, as tests/golden/make.py says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa

from fastseq import Index
from fastseq.index import IMPACTS_VERSION

HERE = Path(__file__).resolve().parent
QUERIES: list[dict[str, float]] = [
    {"tea": 1.0}, {"tea": 0.25, "##s": 2.0, "green tea": 1.5}, {"猫": 1.0, "milk": -1.0},
    {"no": 1.0},
]  # fmt: skip
HITS = 5


def corpus(whole: bool) -> pa.Table:
    """Small, and with something of everything: nulls, empty maps, repeated terms, large weights."""
    rows: list[list[tuple[str, float]] | None] = [
        [("tea", 1.5), ("green tea", 0.75)], None, [], [("猫", 3.0), ("milk", 0.5)],
        [("tea", 0.25), ("tea", 0.5), ("##s", 1e-9)], [("tea", 20_000.0), ("milk", 0.0)],
    ]  # fmt: skip
    rows += [[("tea", 0.125 * (n % 7)), (f"w{n % 4}", 1.0 + n)] for n in range(30)]
    if whole:
        rows = [row and [(term, weight * 8 // 1) for term, weight in row] for row in rows]
    kind = pa.map_(pa.string(), pa.int32() if whole else pa.float32())
    ids = [f"d{n:02}" for n in range(len(rows))]
    return pa.table({"id": ids, "year": range(len(rows)), "impacts": pa.array(rows, kind)})


def build(path: Path, name: str) -> Index:
    """An index of a kind of weights, of several segments, with documents replaced and deleted."""
    table = corpus(name == "integer")
    index = Index.build(table[:20], path, impacts="impacts", threads=1)
    index.add(table[20:], threads=1)
    index.delete(["d04", "d30"])
    index.add(table[2:4], threads=1)
    return Index.open(path)


def results(index: Index) -> list[list[list[object]]]:
    """[id, score] of the best hits of each query."""
    return [
        [[hit["id"], hit["score"]] for hit in index.search(query, HITS).to_dicts()]
        for query in QUERIES
    ]


def make(target: Path) -> Path:
    """Write the indexes of the current version below `target`; refuses to write over any."""
    folder = target / f"v{IMPACTS_VERSION}"
    for name in ("float", "integer"):
        index = build(folder / name, name)
        (folder / name / "lock").unlink()
        with open(folder / f"{name}.json", "x", encoding="utf-8") as file:
            json.dump(results(index), file, ensure_ascii=False, indent=1)
            file.write("\n")
    return folder


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
