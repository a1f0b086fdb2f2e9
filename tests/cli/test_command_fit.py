"""fastseq fit-lstm, fit-gru, fit-rnn: options, summary, resuming, errors."""

from __future__ import annotations

import inspect
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import pytest
from fastseq_cli.fit import CELLS, estimator
from fastseq_cli.main import cli
from fastseq_cli.options import SectionOption
from fastseq_cli.parameters import COLUMNS, TASKS

from fastseq.estimator import parameters_of
from fastseq.models.classifier import SequenceClassifier
from fastseq.models.forecaster import Forecaster
from fastseq.models.language import BPTT, LanguageModel
from tests.cli.conftest import SCRIPT, Run, Write

TINY = ("--hidden", "4", "--embedding", "4", "--epochs", "2", "--threads", "1")
WEIGHTS = "weights.safetensors"


# ---- options


def options_of(cell: str) -> dict[str, Any]:
    """The options of a command that are parameters of estimators or columns, by name."""
    command = cli.get_command(click.Context(cli), f"fit-{cell}")
    assert command is not None
    params = command.params
    return {param.name: param for param in params if isinstance(param, SectionOption)}


@pytest.mark.parametrize("task", TASKS)
def test_options_match_the_estimators_parameters(task: str) -> None:
    kind = estimator(task)
    columns = {name for name, column in COLUMNS.items() if task in column.tasks}
    parameters = set(inspect.signature(kind).parameters)
    assert parameters - {"cell", "threads"} <= options_of("rnn").keys()
    assert {column.removesuffix("s") for column in columns} == {
        column.removesuffix("s") for column in kind.columns
    }


def test_options_have_the_range_and_choices_of_their_parameters() -> None:
    options, declared = options_of("lstm"), parameters_of(SequenceClassifier)
    assert options["hidden"].type.name == "integer"
    assert options["dropout"].type.name == "float"
    assert options["pooling"].type.choices == declared["pooling"].check.names
    assert options["hidden"].help.startswith(declared["hidden"].help)


def test_help_shows_the_estimators_defaults(run: Run) -> None:
    page = run("fit-lstm", "--help").out.partition("Examples:")[0]
    said = " ".join(page.split())
    for flag, values in {
        "layers": "1",
        "pooling": SequenceClassifier().pooling,
        "optimizer": LanguageModel().optimizer,
        "memory": "1GB",
        "bptt": f"{BPTT['word']}, or {BPTT['char']} for char and byte",
        "window": f"{Forecaster().window}",
        "epochs": "10; forecast: 20",
        "clip": "not clipped; language, forecast: 1",
    }.items():
        after = said.partition(f" --{flag} ")[2].partition(" --")[0].partition(" Training:")[0]
        assert after.strip().endswith(f"[default: {values}]"), flag
    assert "[default" not in said.partition(" --crf ")[2].partition(" --")[0]


@pytest.mark.parametrize("cell", CELLS)
def test_help_lists_every_option_in_sections(run: Run, cell: str) -> None:
    ran = run(f"fit-{cell}", "--help")
    assert ran.code == 0
    titles = ("Options", "Columns", "Model", "Training")
    places = [ran.out.index(f"\n{title}:\n") for title in titles]
    assert places == sorted(places)
    for option in options_of(cell).values():
        assert f"  {option.opts[0]} " in ran.out
    assert ("nonlinearity" in options_of(cell)) == (cell == "rnn")


def test_nonlinearity_is_an_option_of_fit_rnn_only(run: Run, corpora: Path) -> None:
    words = (corpora / "reviews.parquet", *TINY, "--nonlinearity", "relu", "-o", "m")
    assert run("fit-lstm", *words).code == 2
    assert run("fit-rnn", *words).code == 0
    assert run("info", "m").pairs["nonlinearity"] == "relu"


def test_monitor_selects_the_best_epoch(run: Run, corpora: Path) -> None:
    reviews = corpora / "reviews.parquet"
    for measure in ("loss", "accuracy", "macro_f1"):
        words = (reviews, "--valid", reviews, *TINY, "--monitor", measure, "-o", measure)
        assert run("fit-gru", *words).code == 0
        assert run("info", measure).pairs["monitor"] == measure
    error = run("fit-gru", reviews, "--valid", reviews, *TINY, "--monitor", "f1", "--quiet").error
    assert "expected one of accuracy, loss, macro_f1" in error


def test_the_tag_scheme_is_detected_or_given(run: Run, write: Write) -> None:
    tags = [["I-PER", "B-PER", "O"], ["O", "I-LOC"]] * 10
    data = write("tagged.parquet", tokens=[["a", "b", "c"], ["d", "e"]] * 10, tags=tags)
    words = (data, "--crf", "--hidden", "4", "--epochs", "1", "--valid", data, "--monitor", "f1")
    ran = run("fit-gru", *words, "-o", "m")
    assert ran.pairs["tag scheme"] == run("info", "m").pairs["tag scheme"] == "IOB1"
    measured = run("test", "m", data, "--format", "json").json
    assert ran.pairs["validation f1"] == f"{measured['f1']:.4f}"
    assert "violate" not in ran.err
    ran = run("fit-gru", *words, "--tag-scheme", "iob2", "-o", "n")
    assert ran.pairs["tag scheme"] == "IOB2"
    wrong = f"the tags of 20 of 20 rows violate the tag scheme IOB2, such as {data}: row 0"
    for part in ("training", "validation"):
        assert f"{part}: {wrong} (from 0): 'I-PER' at the start" in ran.err
    assert wrong in run("test", "n", data).err
    error = run("fit-gru", *words, "--tag-scheme", "BMES", "-o", "k", "--quiet").error
    assert "'I-LOC' is among the tags; expected O and B-TYPE, M-TYPE, E-TYPE, S-TYPE" in error
    error = run("fit-gru", *words, "--tag-scheme", "none", "-o", "k", "--quiet").error
    assert "the tags encode no spans" in error


def test_completion_lists_the_options(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "fastseq fit-gru --bid", "COMP_CWORD": "2"}
    ran = subprocess.run(
        [SCRIPT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"_FASTSEQ_COMPLETE": "bash_complete", **words},
    )
    assert ran.stdout.split() == ["plain,--bidirectional"]


# ---- training


@pytest.mark.parametrize("cell", CELLS)
def test_fit_prints_a_summary(run: Run, corpora: Path, cell: str) -> None:
    reviews = corpora / "reviews.parquet"
    ran = run(f"fit-{cell}", reviews, "--valid", reviews, *TINY)
    summary = ran.pairs
    assert summary["model"] == str(Path(".fastseq/model"))
    assert summary["task"] == "classify"
    assert int(summary["parameters"].replace(",", "")) > 100
    assert summary["best epoch"] in ("1 of 2", "2 of 2")
    assert 0 <= float(summary["validation accuracy"]) <= 1
    assert float(summary["training loss"]) > 0
    assert float(summary["validation loss"]) > 0
    assert summary["time"].endswith("tokens/s)")
    lines = [line for line in ran.err.splitlines() if line.startswith("epoch")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    for part in (": loss 0.", ", valid loss 0.", ", accuracy ", "tokens/s"):
        assert all(part in line for line in lines), lines
    described = run("info", ".fastseq/model", "--verify").pairs
    assert described["model"] == "classifier"
    assert described["cell"] == cell


@pytest.mark.parametrize(
    ("corpus", "words", "task", "unit"),
    [
        ("reviews", (), "classify", "tokens"),
        ("spoken", (), "tag", "tokens"),
        ("reviews", ("--label-column", "id"), "classify", "tokens"),
        ("wave", ("--value-column", "value", "--window", "4"), "forecast", "values"),
        ("book", ("--task", "language", "--unit", "byte"), "language", "bytes"),
        ("book", ("--task", "language"), "language", "tokens"),
    ],
)
def test_the_task_is_inferred_or_given(
    run: Run, corpora: Path, corpus: str, words: tuple[str, ...], task: str, unit: str
) -> None:
    sizes = ("--hidden", "4", "--epochs", "1", "--threads", "1")
    summary = run("fit-gru", corpora / f"{corpus}.parquet", "-o", "m", *sizes, *words).pairs
    assert summary["task"] == task
    assert summary["time"].endswith(f"{unit}/s)")
    assert summary["epochs"] == "1"


def test_quiet_prints_nothing(run: Run, corpora: Path) -> None:
    ran = run("--quiet", "fit-lstm", corpora / "reviews.parquet", *TINY)
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_options_reach_the_model(run: Run, corpora: Path) -> None:
    words = ("--layers", "2", "--bidirectional", "--pooling", "attention", "--keep-case")
    words += ("--class-weights", "0=2", "--class-weights", "1=0.5", "--clip", "0", "--seed", "3")
    words += ("--optimizer", "sgd", "--optimizer-setting", "momentum=0.5", "--min-count", "2")
    words += ("--schedule", "step", "--schedule-setting", "every=4", "--dropout", "0.25")
    assert run("fit-gru", corpora / "reviews.parquet", "-o", "m", *TINY, *words).code == 0
    described = run("info", "m").pairs
    expected = {
        "layers": "2",
        "bidirectional": "yes",
        "pooling": "attention",
        "lowercase": "no",
        "class_weights.0": "2",
        "class_weights.1": "0.5",
        "clip": "-",
        "seed": "3",
        "optimizer": "sgd",
        "optimizer_settings.momentum": "0.5",
        "min_count": "2",
        "schedule": "step",
        "schedule_settings.every": "4",
        "dropout": "0.25",
    }
    assert {name: described[name] for name in expected} == expected


def test_embeddings_set_the_embedding_size(run: Run, corpora: Path, tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("good 1 0 0\ndull 0 1 0\nfilm 0 0 1\n")
    words = ("--embeddings", "vectors.txt", "--hidden", "4", "--epochs", "1", "-o", "m")
    ran = run("fit-lstm", corpora / "reviews.parquet", *words)
    assert ran.code == 0
    covered = re.compile(r"^embeddings found +3 of (\d+) units \((.*)%\), (.*)% of tokens$", re.M)
    found = covered.search(ran.out)
    assert found is not None, ran.out
    assert covered.search(run("info", "m").out).groups() == found.groups()
    assert float(found[2]) == pytest.approx(100 * 3 / int(found[1]), abs=0.05)
    from fastseq.models import load

    assert load("m").learned.network.embedding.size == 3


def test_the_same_seed_gives_the_same_weights(run: Run, corpora: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ("-o", name, "--seed", seed, *TINY)
        assert run("fit-lstm", corpora / "reviews.parquet", *words).code == 0
    a, b, c = (Path(name, WEIGHTS).read_bytes() for name in "abc")
    assert a == b != c


def test_existing_model_needs_overwrite(
    run: Run, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTSEQ_MODEL", "elsewhere/model")
    words = (corpora / "reviews.parquet", *TINY)
    assert run("fit-lstm", *words).code == 0
    before = Path("elsewhere/model", WEIGHTS).read_bytes()
    error = run("fit-gru", *words).error
    assert "--overwrite" in error
    assert "elsewhere" in error
    assert Path("elsewhere/model", WEIGHTS).read_bytes() == before
    assert run("fit-gru", *words, "--overwrite").code == 0
    assert Path("elsewhere/model", WEIGHTS).read_bytes() != before


def test_resume_with_more_epochs_equals_one_training(run: Run, corpora: Path) -> None:
    corpus, small = corpora / "reviews.parquet", ("--hidden", "4", "--embedding", "4")
    start = ("fit-lstm", corpus, *small, "--threads", "1")
    assert run(*start, "-o", "whole", "--epochs", "4").code == 0
    assert run(*start, "-o", "parts", "--epochs", "2").code == 0
    ran = run(*start, "-o", "parts", "--epochs", "4", "--resume")
    assert ran.pairs["epochs"] == "4"
    assert Path("parts", WEIGHTS).read_bytes() == Path("whole", WEIGHTS).read_bytes()
    error = run(*start, "-o", "parts", "--epochs", "5", "--resume", "--seed", "9", "--quiet").error
    assert "seed" in error
    error = run(*start, "-o", "parts", "--epochs", "3", "--resume", "--quiet").error
    assert "epochs is 3, but 4 epochs are done" in error
    fresh = run(*start, "-o", "fresh", "--epochs", "4", "--resume")
    assert "fresh has no checkpoint: training from the beginning" in fresh.err
    assert Path("fresh", WEIGHTS).read_bytes() == Path("whole", WEIGHTS).read_bytes()
    assert Path("parts", WEIGHTS).read_bytes() == Path("whole", WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("number", "code", "what"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_signal_leaves_a_checkpoint(
    run: Run, corpora: Path, tmp_path: Path, number: int, code: int, what: str
) -> None:
    words = ["fit-lstm", str(corpora / "reviews.parquet"), "--hidden", "8", "--threads", "1"]
    child = subprocess.Popen(
        [SCRIPT, *words, "--epochs", "100000", "-o", "parts"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    for line in child.stderr:  # until the first epoch is over
        if line.startswith("epoch"):
            break
    time.sleep(0.1)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    assert out == ""
    assert "Traceback" not in err
    resumed = "the same command with --resume continues from the checkpoint in parts"
    assert err.splitlines()[-1] == f"{what}; {resumed}"
    assert "--resume" in run(*words, "--epochs", "3", "-o", "parts").error
    shown = run("info", "parts", "--verify").pairs
    assert shown["state"].startswith("unfinished training")
    assert (shown["model"], shown["hidden"]) == ("classifier", "8")
    assert shown["epochs done"].endswith(" of 100,000")
    assert shown["verified"] == "all files are intact"
    checkpoint = run("info", "parts", "--format", "json").json
    assert checkpoint == run("info", "parts/checkpoint", "--format", "json").json
    assert checkpoint["kind"] == "checkpoint"
    epochs = checkpoint["statistics"]["epoch"] + 1
    summary = run(*words, "--epochs", epochs, "-o", "parts", "--resume").pairs
    assert summary["epochs"] == str(epochs)
    assert run("info", "parts", "--verify").code == 0
    assert run(*words, "--epochs", epochs, "-o", "whole").code == 0
    assert Path("parts", WEIGHTS).read_bytes() == Path("whole", WEIGHTS).read_bytes()


def test_plots_are_written(run: Run, corpora: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ("--plot", "curve.svg", "--gradient-flow", "flow.svg", "-o", "m", *TINY)
    assert run("fit-rnn", corpora / "reviews.parquet", *words).code == 0
    assert "Learning curve" in Path("curve.svg").read_text("utf-8")
    flow = Path("flow.svg").read_text("utf-8")
    assert "before training" in flow
    assert "epoch 2" in flow


def test_gradient_flow_as_parquet(run: Run, corpora: Path) -> None:
    words = ("--gradient-flow", "flow.parquet", "-o", "m", *TINY)
    assert run("fit-rnn", corpora / "reviews.parquet", *words).code == 0
    flow = pq.read_table("flow.parquet").to_pydict()
    assert list(flow) == ["when", "steps_before_last", "norm"]
    assert list(dict.fromkeys(flow["when"])) == ["before training", "epoch 1", "epoch 2"]
    steps = len(flow["when"]) // 3
    assert flow["steps_before_last"] == [*range(steps)] * 3
    assert all(norm > 0 for norm in flow["norm"])


def test_inputs_are_never_overwritten(run: Run, corpora: Path, tmp_path: Path) -> None:
    reviews = shutil.copy(corpora / "reviews.parquet", tmp_path)
    before = Path(reviews).read_bytes()
    for words in ((reviews,), (corpora / "reviews.parquet", "--valid", reviews)):
        error = run("fit-rnn", *words, "--gradient-flow", "reviews.parquet", *TINY).error
        assert "reviews.parquet: is also an input" in error
    assert Path(reviews).read_bytes() == before


def test_optimizer_settings_of_two_numbers(run: Run, corpora: Path) -> None:
    words = ("--optimizer-setting", "betas=0.9,0.99", "--optimizer-setting", "eps=1e-6", *TINY)
    reviews = corpora / "reviews.parquet"
    assert run("fit-gru", reviews, "-o", "m", *words).code == 0
    described = run("info", "m").pairs
    assert described["optimizer_settings.betas"] == "0.9, 0.99"
    assert described["optimizer_settings.eps"] == "1e-06"
    assert run("fit-gru", reviews, "-o", "m", *words, "--epochs", "3", "--resume").code == 0


def test_class_weights_of_boolean_labels(run: Run, write: Write) -> None:
    truths = write("truths.parquet", text=["dull", "good"] * 8, label=[False, True] * 8)
    words = ("--class-weights", "true=2", "--class-weights", "False=0.5", *TINY)
    assert run("fit-gru", truths, "-o", "m", *words).code == 0
    assert run("info", "m").pairs["class_weights.true"] == "2"


def test_embeddings_from_a_text_file(run: Run, corpora: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("once upon a time\nthere was a film\n")
    words = ("--embeddings", "words.txt", "--quiet", *TINY)
    error = run("fit-lstm", corpora / "reviews.parquet", *words).error
    assert "words.txt: line 1 holds 'upon', expected a number" in error


def test_reports_on_the_data_are_printed(run: Run, write: Write) -> None:
    corpus = write("odd.parquet", text=["good", "", None, "bad"] * 4, label=list("abab") * 4)
    valid = write("valid.parquet", text=["good", "bad", "new"], label=list("abz"))
    ran = run("fit-lstm", corpus, "--valid", valid, *TINY)
    assert ran.code == 0, ran.err
    assert "training: 8 of 16 texts are empty (4 of them null)" in ran.err
    assert "validation: " in ran.err
    assert "'z'" in ran.err


# ---- what is refused


@pytest.mark.parametrize(
    ("corpus", "words", "said"),
    [
        ("book", (), ("cannot infer", "(text)", "--task classify, tag, language or forecast")),
        ("wave", (), ("cannot infer", "(value)", "forecast")),
        ("reviews", ("--crf",), ("--crf is for --task tag", "CORPUS is for --task classify")),
        ("reviews", ("--task", "classify", "--bptt", "20"), ("--bptt is for --task language",)),
        ("spoken", ("--pooling", "mean"), ("--pooling is for --task classify",)),
        ("spoken", ("--text-column", "x"), ("--text-column is for --task classify or language",)),
        ("wave", ("--task", "forecast", "--unit", "word"), ("--unit is for", "tag or language")),
        ("wave", ("--value-column", "value", "--embedding", "4"), ("--embedding",)),
        ("book", ("--task", "language", "--bidirectional"), ("--bidirectional",)),
        ("reviews", ("--class-weights", "spam"), ("--class-weights 'spam'", "name=0.5")),
        ("reviews", ("--optimizer-setting", "momentum=x"), ("momentum=x",)),
        ("reviews", ("--optimizer-setting", "betas=0.9,"), ("betas=0.9,",)),
        ("reviews", ("--class-weights", "0=1,2"), ("0=1,2",)),
        ("reviews", ("--task", "guess"), ("guess",)),
        ("reviews", ("--hidden", "many"), ("many",)),
        ("reviews", ("--cell", "lstm"), ("--cell",)),
    ],
)
def test_usage_errors_are_one_line_with_status_2(
    run: Run, corpora: Path, corpus: str, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    ran = run("fit-lstm", corpora / f"{corpus}.parquet", *words)
    assert ran.code == 2
    assert all(part in ran.error for part in said), ran.error
    assert not Path(".fastseq").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "cuda"), ("CUDA",)),
        (("--hidden", "0"), ("hidden must be", "not 0")),
        (("--epochs", "0"), ("epochs",)),
        (("--dropout", "1"), ("dropout must be", "not 1")),
        (("--learning-rate", "-1"), ("--learning-rate must",)),
        (("--memory", "much"), ("much",)),
        (("--patience", "2"), ("patience", "valid")),
        (("--schedule", "step"), ("every",)),
        (("--optimizer-setting", "speed=2"), ("speed",)),
        (("--optimizer-setting", "betas=0.9"), ("betas must be two numbers, not 0.9",)),
        (("--text-column", "text") * 2, ("the text column 'text' is named 2 times",)),
        (("--class-weights", "5=2"), ("'5'",)),
        (("--freeze-embeddings",), ("--freeze-embeddings needs",)),
        (("--embeddings", "gone.txt"), ("gone.txt",)),
        (("--text-column", "body"), ("body", "text")),
        (("--label-column", "stars"), ("stars", "label")),
        (("--label-column", "text"), ("reviews.parquet", "'text'", "both the text and the label")),
        (("--valid", "gone.parquet"), ("gone.parquet",)),
        (("--plot", "curve.jpeg"), ("curve.jpeg", ".png")),
        (("--plot", "no/such/curve.png"), ("no/such",)),
        (("--gradient-flow", "flow"), ("flow", ".svg", ".parquet")),
        (("--plot", "curve.parquet"), ("curve.parquet", ".png")),
        (("--learning-rate", "1e29", "--optimizer", "sgd"), ("step", "lower the learning rate")),
    ],
)
def test_invalid_options_are_a_one_line_error(
    run: Run, corpora: Path, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    corpus = corpora / "reviews.parquet"
    ran = run("fit-lstm", corpus, "--hidden", "4", "--epochs", "2", "--quiet", *words)
    assert ran.code == 1
    assert all(part in ran.error for part in said), ran.error
    assert not Path(".fastseq/model/manifest.json").exists()


@pytest.mark.parametrize(
    ("columns", "words", "said"),
    [
        ({"text": ["a", "b"], "label": ["x", "x"]}, (), ("label",)),
        ({"text": ["a", "b"], "label": ["x", None]}, (), ("label", "row 1")),
        ({"text": ["a", "b"], "label": [0.5, 1.5]}, (), ("label", "double")),
        ({"text": [], "label": []}, (), ("odd.parquet",)),
        ({"tokens": [["a"], ["b", "c"]], "tags": [["X"], ["Y"]]}, (), ("row 1", "2 tokens")),
        ({"value": [1.0, float("nan"), 2.0]}, ("--task", "forecast"), ("row 1", "nan")),
        ({"value": [1.0, 2.0]}, ("--task", "forecast", "--window", "4"), ("odd.parquet", "2 rows")),
        ({"value": [1.0, 2.0]}, ("--value-column", "value") * 2, ("'value' is named 2 times",)),
        ({"text": [None, ""]}, ("--task", "language", "--unit", "char"), ("no text",)),
    ],
)
def test_invalid_data_is_a_one_line_error(
    run: Run, write: Write, columns: dict[str, Any], words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    ran = run("fit-lstm", write("odd.parquet", **columns), "--quiet", *words)
    assert ran.code == 1
    assert all(part in ran.error for part in said), ran.error
    assert not Path(".fastseq").exists()


def test_validation_data_without_the_columns_is_an_error(run: Run, corpora: Path) -> None:
    words = (corpora / "reviews.parquet", "--valid", corpora / "spoken.parquet", "--quiet")
    error = run("fit-lstm", *words, *TINY).error
    assert "spoken.parquet" in error
    assert "tokens" in error


def test_output_that_cannot_be_written_is_an_error(
    run: Run, corpora: Path, bilingual: Path, tmp_path: Path
) -> None:
    words = (corpora / "reviews.parquet", *TINY, "--quiet", "--overwrite")
    (tmp_path / "file").write_text("mine")
    assert "file" in run("fit-lstm", *words, "-o", "file").error
    index = shutil.copytree(bilingual, tmp_path / "index")
    assert "index" in run("fit-lstm", *words, "-o", index).error
    assert run("info", index, "--verify").code == 0


def test_missing_files_are_named(run: Run) -> None:
    assert "gone.parquet" in run("fit-lstm", "gone.parquet").error
    assert run("fit-lstm").code == 2


def test_corpora_are_folders_and_globs(run: Run, corpora: Path, tmp_path: Path) -> None:
    table = pq.read_table(corpora / "reviews.parquet")
    (tmp_path / "many").mkdir()
    for n in range(2):
        pq.write_table(table.slice(40 * n, 40), tmp_path / "many" / f"{n}.parquet")
    for name, corpus in {
        "one": [corpora / "reviews.parquet"],
        "folder": ["many"],
        "glob": ["many/*.parquet"],
        "two": ["many/0.parquet", "many/1.parquet"],
    }.items():
        assert run("fit-lstm", *corpus, "-o", name, *TINY).code == 0
        assert Path(name, WEIGHTS).read_bytes() == Path("one", WEIGHTS).read_bytes()
