"""Every fit command: SIGTERM, --resume of a complete training, losses of few short rows."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastseq.store.folder import read_manifest
from tests.cli.conftest import Run, Write

COMMANDS = ("fit-word2vec", "fit-glove", "fit-fasttext", "fit-fasttext-classifier", "fit-gru")
SMALL = {"fit-gru": ("--hidden", "4", "--embedding", "4")}
FEW = ["a cat", "the dog runs", "a", "a cat sees the dog", "dog"] * 2  # ten short rows


@pytest.fixture
def corpus(write: Write) -> Path:
    return write("few.parquet", text=FEW, label=["x", "y", "x", "y", "x"] * 2)


def words(command: str, corpus: Path, *more: str) -> list[str]:
    """A command line that trains a small model in the folder m."""
    options = SMALL.get(command, ("--dimensions", "8"))
    least = () if command == "fit-gru" else ("--min-count", "1")
    return [command, str(corpus), *options, *least, "-o", "m", "--threads", "1", *more]


@pytest.mark.sample(3)
@pytest.mark.parametrize("command", COMMANDS)
def test_sigterm_leaves_a_checkpoint_and_names_resume(
    command: str, run: Run, corpus: Path, tmp_path: Path
) -> None:
    given = words(command, corpus, "--epochs", "1000000")
    child = subprocess.Popen(
        [sys.executable, "-m", "fastseq_cli", *given],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:  # until the first epoch is over
        if line.startswith("epoch"):
            break
    child.terminate()
    out, err = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM, err
    assert out == ""
    assert err.splitlines()[-1] == (
        "Terminated; the same command with --resume continues from the checkpoint in m"
    )
    assert run("info", "m", "--verify").code == 0
    assert "--resume" in run(*given).error


@pytest.mark.parametrize(
    "phase", ["word_vectors.glove.count_cooccurrences", "word_vectors.base.read_sentences"]
)
def test_sigterm_before_training_ends_the_command(phase: str, corpus: Path, tmp_path: Path) -> None:
    given = words("fit-glove", corpus)
    script = f"""if True:
        import os, signal, time
        from fastseq_cli.main import cli
        import fastseq.models.{phase.rpartition(".")[0]} as module
        def terminated(*given, **more):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        module.{phase.rpartition(".")[2]} = terminated
        cli({given!r})
    """
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 143, ran.stderr
    assert ran.stderr.splitlines()[-1] == "Terminated"
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_resume_of_a_complete_training_is_a_notice(command: str, run: Run, corpus: Path) -> None:
    given = words(command, corpus, "--epochs", "2")
    first = run(*given)
    assert first.code == 0, first.err
    again = run(*given, "--resume")
    assert again.code == 0, again.err
    assert "m: training was already complete; nothing to resume" in again.err
    assert again.out.splitlines()[:-1] == first.out.splitlines()[:-1]
    assert run(*given, "--resume", "--quiet").err == ""


def test_finished_model_without_its_checkpoint_is_resumed_with_a_notice(
    run: Run, corpus: Path
) -> None:
    given = words("fit-gru", corpus, "--epochs", "2")
    first = run(*given)
    shutil.rmtree(Path("m", "checkpoint"))
    again = run(*given, "--resume")
    assert again.code == 0, again.err
    assert "m: training was already complete; nothing to resume" in again.err
    assert again.out.splitlines()[:-1] == first.out.splitlines()[:-1]
    longer = run(*words("fit-gru", corpus, "--epochs", "3"), "--resume")
    assert longer.code == 1
    assert "m has no checkpoint to resume from" in longer.error


@pytest.mark.parametrize("command", COMMANDS)
def test_resume_of_a_complete_training_on_other_data_is_an_error(
    command: str, run: Run, corpus: Path, write: Write
) -> None:
    given = words(command, corpus)
    assert run(*given).code == 0
    shutil.rmtree(Path("m", "checkpoint"), ignore_errors=True)
    before = Path("m", "manifest.json").read_bytes()
    other = write("other.parquet", text=["a dog", "the cat"] * 5, label=["x", "y"] * 5)
    ran = run(*words(command, other), "--resume")
    assert ran.code == 1
    assert "m: cannot resume: " in ran.error
    assert Path("m", "manifest.json").read_bytes() == before
    assert run(*given, "--resume").code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_resume_of_a_folder_that_does_not_identify_its_data_is_a_notice(
    command: str, run: Run, corpus: Path
) -> None:
    given = words(command, corpus)
    assert run(*given).code == 0
    shutil.rmtree(Path("m", "checkpoint"), ignore_errors=True)
    manifest = read_manifest(Path("m"))
    del manifest.statistics["data"]
    Path("m", "manifest.json").write_bytes(manifest.to_bytes())
    again = run(*given, "--resume")
    assert again.code == 0, again.err
    assert "Notice: m: does not identify the data of its training" in again.err
    assert "m: training was already complete; nothing to resume" in again.err


@pytest.mark.parametrize("command", COMMANDS)
def test_info_leaves_out_the_checksums_of_the_data(command: str, run: Run, corpus: Path) -> None:
    assert run(*words(command, corpus)).code == 0
    assert not any("data" in name for name in run("info", "m").pairs if "data-" not in name)


@pytest.mark.parametrize("command", COMMANDS)
def test_few_short_rows_have_a_finite_loss(command: str, run: Run, corpus: Path) -> None:
    ran = run(*words(command, corpus))
    assert ran.code == 0, ran.err
    assert "nan" not in ran.err + ran.out
    assert float(ran.out.split("training loss")[1].split()[0]) > 0


def test_missing_loss_is_explained(run: Run, write: Write) -> None:
    corpus = write("one.parquet", text=["aa aa"] * 5)
    ran = run(*words("fit-word2vec", corpus, "--loss", "hierarchical"))
    assert "training loss" in ran.out
    assert "none: the rows have no two different words" in ran.out
    assert "nan" not in ran.err
