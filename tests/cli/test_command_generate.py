"""fastseq generate: sampling, greedy and beam search, seeds, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

Generate = Callable[..., Any]


@pytest.fixture
def generate(run: Run, models: Path) -> Generate:
    return lambda *words: run("generate", models / "book", *words)


def texts(ran: Any) -> list[str]:
    assert ran.code == 0, ran.err
    return [json.loads(line)["text"] for line in ran.out.splitlines()]


def test_text_continues_the_prompt(generate: Generate) -> None:
    ran = generate("--prompt", "the cat ", "--length", "40", "--temperature", "0.3")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("the cat ")
    assert len(ran.out) == len("the cat ") + 40 + 1
    assert set(ran.out) <= set("thecasondmgl \n")


def test_jsonl_has_the_texts_of_the_text_format(generate: Generate) -> None:
    words = ("--prompt", "the ", "--length", "20")
    line = json.loads(generate(*words, "--seed", "4", "--format", "jsonl").out)
    assert list(line) == ["seed", "prompt", "text"]
    assert (line["seed"], line["prompt"]) == (4, "the ")
    assert generate(*words, "--seed", "4").out == f"the {line['text']}\n"


def test_each_further_text_has_the_next_seed(generate: Generate) -> None:
    words = ("--length", "30", "--format", "jsonl")
    three = texts(generate(*words, "--count", "3", "--seed", "5"))
    assert three == [texts(generate(*words, "--seed", seed))[0] for seed in (5, 6, 7)]
    assert len(set(three)) == 3
    ran = generate("--length", "30", "--count", "3", "--seed", "5")
    assert ran.out == "\n\n".join(three) + "\n"


@pytest.mark.parametrize(
    "words", [("--greedy",), ("--temperature", "0"), ("--top-k", "1"), ("--beams", "1")]
)
def test_greedy_and_equivalent_settings_give_the_likeliest_text(
    generate: Generate, words: tuple[str, ...]
) -> None:
    shared = ("--prompt", "the ", "--length", "12", "--format", "jsonl")
    likeliest = texts(generate(*shared, "--greedy"))
    assert texts(generate(*shared, *words)) == likeliest
    if "--beams" not in words:
        assert texts(generate(*shared, *words, "--seed", "9")) == likeliest


def test_end_with_row_stops_at_the_end_of_a_row(run: Run, corpora: Path) -> None:
    fit = ("--task", "language", "--hidden", "8", "--epochs", "2", "--threads", "1", "-o", "m")
    assert run("fit-gru", corpora / "book.parquet", *fit).code == 0
    words = ("--prompt", "the cat", "--length", "400")
    assert len(run("generate", "m", *words).out.splitlines()) > 1
    ran = run("generate", "m", *words, "--end-with-row")
    assert ran.code == 0, ran.err
    assert len(ran.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--length", "0"), "length must be"),
        (("--temperature", "-1"), "temperature"),
        (("--top-k", "0"), "--top-k"),
        (("--top-p", "1.5"), "--top-p"),
        (("--beams", "0"), "beams"),
        (("--beams", "2", "--temperature", "0.5"), "beams and temperature"),
        (("--greedy", "--top-k", "3"), "greedy and --top-k"),
        (("--length-penalty", "1"), "beams"),
        (("--end-with-row",), "--end-with-row"),
        (("--prompt", "猫"), "'猫'"),
        (("--count", "0"), "count"),
        (("--seed", "-1"), "seed"),
        (("--device", "cuda"), "CUDA"),
    ],
)
def test_invalid_options_are_a_one_line_error(
    generate: Generate, words: tuple[str, ...], said: str
) -> None:
    ran = generate(*words)
    assert ran.code == 1
    assert said in ran.error
    assert ran.out == ""


@pytest.mark.parametrize("words", [("--greedy",), ("--beams", "4")])
def test_count_requires_sampling(generate: Generate, words: tuple[str, ...]) -> None:
    ran = generate("--count", "2", *words)
    assert ran.code == 2
    assert words[0] in ran.error


def test_other_models_are_an_error(run: Run, models: Path, bilingual: Path) -> None:
    for name in ("reviews", "spoken", "wave"):
        error = run("generate", models / name).error
        assert name in error
        assert "language model" in error
    assert "index" in run("generate", bilingual).error
    assert "gone" in run("generate", "gone").error
