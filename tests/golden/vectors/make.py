"""Makes the golden model of fastText's .bin form, with gensim.

    pip install gensim==4.4.0
    python tests/golden/vectors/make.py [FOLDER]

Writes gensim.bin and gensim.json (what gensim says of words it knows and does not know) beside this
file or into FOLDER. Written once, and then left as they are: a later fastseq must read them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gensim.models.fasttext import FastText, ft_ngram_hashes, save_facebook_model

HERE = Path(__file__).resolve().parent

ROWS = [
    "the cat sat on the mat",
    "the dog sat on the cat",
    "naïve Zürich élan",
    "猫 喜欢 吃 鱼 🎉",
    "a b c the dog naïve 猫",
]
UNKNOWN = ["cats", "doggy", "Zürcher", "犬", "z", "👩‍👧", "喜欢吃鱼"]
HASHED = [*UNKNOWN, "where", "<", ">", "a", "é", "🎉🎉", "supercalifragilistic"]


def make(folder: Path) -> Path:
    """Write both files; refuses to write over any."""
    model = FastText(
        [row.split() for row in ROWS],
        vector_size=4,
        bucket=50,
        min_count=1,
        min_n=2,
        max_n=4,
        sg=1,
        epochs=5,
        seed=1,
        workers=1,
    )
    words = model.wv.index_to_key
    said = {
        "words": words,
        "counts": [int(model.wv.get_vecattr(word, "count")) for word in words],
        "vectors": [model.wv[word].tolist() for word in words],
        "unknown": {word: model.wv[word].tolist() for word in UNKNOWN},
        "hashes": {
            f"{low}-{high} {buckets}": {
                word: [int(h) for h in ft_ngram_hashes(word, low, high, buckets)] for word in HASHED
            }
            for low, high, buckets in [(3, 6, 2_000_000), (1, 3, 50)]
        },
    }
    with open(folder / "gensim.json", "x", encoding="utf-8") as file:
        json.dump(said, file, ensure_ascii=False)
        file.write("\n")
    save_facebook_model(model, str(folder / "gensim.bin"))
    return folder


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
