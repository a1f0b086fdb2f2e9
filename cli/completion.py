"""fastseq completion: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .options import common_options, example


@click.command(
    "completion",
    epilog=example(
        "fastseq completion bash >> ~/.bashrc",
        "fastseq completion zsh >> ~/.zshrc",
        "fastseq completion fish > ~/.config/fish/completions/fastseq.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion script.

    Put it where the shell reads it at its start, as below, and open a new shell.
    """
    completion = get_completion_class(shell)
    if completion is None:
        raise click.ClickException(f"this version of click cannot complete in {shell}")
    click.echo(completion(ctx.find_root().command, {}, "fastseq", "_FASTSEQ_COMPLETE").source())
