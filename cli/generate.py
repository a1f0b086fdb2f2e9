"""fastseq generate: text from a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    Common,
    common_options,
    device_option,
    example,
    format_option,
    model_argument,
    pass_common,
)


@click.command(
    "generate",
    epilog=example(
        'fastseq generate book --prompt "It was " --length 300 --temperature 0.8',
        'fastseq generate book --prompt "It was " --beams 8 --length 20',
        "fastseq generate book --count 5 --top-p 0.9 --seed 7 --format jsonl",
    ),
)
@model_argument
@click.option("--prompt", default="", help="Text to go on from.")
@click.option("--length", default=200, show_default=True, help="Units to write, at most.")
@click.option("--temperature", type=float, metavar="X", help="Below 1 bolder is rarer.  [1]")
@click.option("--top-k", type=int, metavar="N", help="Draw from the N most probable units.")
@click.option("--top-p", type=float, metavar="P", help="Draw from the most probable share P.")
@click.option("--greedy", is_flag=True, help="Always take the most probable unit.")
@click.option("--beams", type=int, metavar="N", help="Search for the N most probable texts.")
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option("--count", type=int, metavar="N", help="Texts to write.  [1; with --beams all]")
@format_option(
    "text", "jsonl", default="text", help="text as it comes, or {prompt, text} for each."
)
@device_option
@common_options
@pass_common
def command(common: Common, /, model_path: Path, prompt: str, device: str, **settings: Any) -> None:
    """Write text with a language model."""
