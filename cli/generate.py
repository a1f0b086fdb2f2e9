"""fastseq generate: text from a language model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fastseq.errors import SettingsError

from .options import (
    Common,
    common_options,
    device_option,
    example,
    format_option,
    model_argument,
    pass_common,
)
from .output import write_jsonl


@click.command(
    "generate",
    epilog=example(
        'fastseq generate book --prompt "It was " --length 300 --temperature 0.8',
        'fastseq generate book --prompt "It was " --beams 8 --length 20',
        "fastseq generate book --count 5 --top-p 0.9 --seed 7 --format jsonl",
    ),
)
@model_argument
@click.option("--prompt", default="", metavar="TEXT", help="Text to go on from.")
@click.option("--length", default=200, show_default=True, help="Units to write, at most.")
@click.option(
    "--temperature", type=float, metavar="X", help="Below 1 more likely, above 1 bolder.  [1]"
)
@click.option("--top-k", type=int, metavar="N", help="Draw from the N likeliest units alone.")
@click.option(
    "--top-p", type=float, metavar="P", help="Draw from the likeliest units that make up P."
)
@click.option("--greedy", is_flag=True, help="Take the likeliest unit, draw nothing.")
@click.option("--beams", type=int, metavar="N", help="Search for the likeliest text, N at a time.")
@click.option(
    "--length-penalty", type=float, default=0.0, metavar="X", help="With --beams: favour long ones."
)
@click.option("--end-with-row", is_flag=True, help="Stop where a row ends (words only).")
@click.option("--seed", default=0, show_default=True, help="Of the draws; the next text adds 1.")
@click.option("--count", default=1, show_default=True, help="Texts to write.")
@format_option(
    "text", "jsonl", default="text", help="Text as it is drawn, or {seed, prompt, text} a line."
)
@device_option
@common_options
@pass_common
def command(
    common: Common,
    /,
    model_path: Path,
    prompt: str,
    length: int,
    seed: int,
    count: int,
    form: str,
    device: str,
    **settings: Any,
) -> None:
    """Write text with a language model.

    MODEL is one that was trained with --task language. The text goes on from --prompt, and with
    several texts each stands behind a blank line.
    """
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        if value < least:
            raise SettingsError(f"{name} must be at least {least}, not {value}")
    if count > 1 and (settings["greedy"] or settings["beams"] is not None):
        flag = "--greedy" if settings["greedy"] else "--beams"
        raise click.UsageError(f"--count is for texts that are drawn: with {flag} all are the same")
    from fastseq.models.language import LanguageModel
    from fastseq.models.loading import load

    model = load(model_path, threads=common.threads, device=device)
    if not isinstance(model, LanguageModel):
        raise SettingsError(f"{model_path}: a {model.kind} writes no text, only a language model")
    common.announce_compilation()

    def texts() -> Iterator[tuple[int, Iterator[str]]]:
        for number in range(seed, seed + count):
            yield number, model.generate(prompt, length, seed=number, **settings)

    if form == "jsonl":
        write_jsonl(
            {"seed": number, "prompt": prompt, "text": "".join(pieces)}
            for number, pieces in texts()
        )
        return
    for number, pieces in texts():
        click.echo("\n" * (number > seed) + prompt, nl=False)
        for piece in pieces:
            click.echo(piece, nl=False)  # which flushes: a person reads along
        click.echo()
