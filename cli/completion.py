"""fastseq completion: the script that a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .options import Common, command


@command(
    "completion",
    "fastseq completion bash >> ~/.bashrc",
    "fastseq completion zsh >> ~/.zshrc",
    "fastseq completion fish > ~/.config/fish/completions/fastseq.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(common: Common, shell: str) -> None:
    """Print the completion script of a shell.

    Append it to a file that the shell reads when it starts, as below, and open a new shell.
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"this version of click has no completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "fastseq", "_FASTSEQ_COMPLETE").source())
