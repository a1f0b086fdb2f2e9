"""fastseq pretrain-bert and fill-mask, and test, info and export of the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bert_checkpoints import write_checkpoint
from tests.cli.conftest import Run, Write

TEXTS = [
    f"The cat sat on mat {n % 3}. A dog ran. It slept, {'so ' * (n % 4)}long." for n in range(20)
]
SMALL = (
    "--layers", "1", "--hidden", "8", "--heads", "2", "--intermediate", "16", "--max-length", "24",
    "--vocabulary-size", "60", "--epochs", "1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_pretrain_and_use(run: Run, write: Write) -> None:
    write("corpus.parquet", text=[*TEXTS, "", None])
    ran = run("pretrain-bert", "corpus.parquet", *SMALL, "--valid", "corpus.parquet", "-o", "model",
              "--export", "out")  # fmt: skip
    assert {
        "model", "export", "vocabulary", "parameters", "best epoch", "validation masked loss",
        "validation accuracy", "validation next accuracy", "validation unigram loss",
    } <= set(ran.pairs)  # fmt: skip
    assert "training: 2 of 22 rows have no token: left out" in ran.err
    described = run("info", "model", "--verify").pairs
    assert described["model"] == "bert pretrained"
    assert described["maximum length"] == "24 tokens"
    assert described["verified"] == "all files are intact"
    measures = run("test", "model", "corpus.parquet", "--format", "json").json
    assert {"loss", "masked_loss", "accuracy", "next_accuracy", "unigram_loss"} < set(measures)
    assert "no predictions for rows" in run("predict", "model", "corpus.parquet").error
    rows = run("fill-mask", "model", "the [MASK] sat [MASK]", "-k", "2", "--format", "json").json
    assert [(row["mask"], row["rank"]) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert (
        rows == run("fill-mask", "out", "the [MASK] sat [MASK]", "-k", "2", "--format", "json").json
    )
    assert "has no [MASK]" in run("fill-mask", "out", "the cat").error
    assert run("embed", "out", "corpus.parquet", "-o", "vectors.parquet").code == 0
    refused = run("pretrain-bert", "corpus.parquet", *SMALL, "-o", "other", "--export", "out")
    assert "already exists: --overwrite" in refused.error
    assert not Path("other").exists()
    assert "model: a folder of fastseq, no checkpoint: see fastseq export" in run(
        "embed", "model", "corpus.parquet", "-o", "other.parquet"
    ).error  # fmt: skip
    more = ("--base", "out", "--max-length", "16", "--epochs", "1", "-o", "more")
    assert run("pretrain-bert", "corpus.parquet", *more).code == 0
    assert "the base sets --layers" in run("pretrain-bert", "corpus.parquet", *more,
                                                "--layers", "2", "--overwrite").error  # fmt: skip
    write_checkpoint(Path("plain"))
    assert "without a head for masked words" in run("fill-mask", "plain", "a [MASK]").error


def test_standard_input_is_read_for_the_vocabulary_too(run: Run, write: Write) -> None:
    lines = "".join(f'{{"text": "{text}"}}\n' for text in TEXTS)
    assert run("pretrain-bert", "-", *SMALL, "-o", "model", stdin=lines).code == 0
    write("corpus.parquet", text=TEXTS)
    assert run("pretrain-bert", "corpus.parquet", *SMALL, "-o", "other").code == 0
    weights = [Path(name, "data-000001", "weights.safetensors") for name in ("model", "other")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
