"""`vitedge completion`: the shell completes commands, options and targets."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from vitedge.commands.grouped import GroupedCommand


@click.command(cls=GroupedCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Prints the script that makes SHELL complete commands, options and targets.

    \b
    bash:  vitedge completion bash >> ~/.bashrc
    zsh:   vitedge completion zsh >> ~/.zshrc
    fish:  vitedge completion fish > ~/.config/fish/completions/vitedge.fish
    """  # noqa: D301  # click's mark for "do not wrap" is the character itself
    found = get_completion_class(shell)
    assert found is not None  # click has all three
    click.echo(found(ctx.find_root().command, {}, "vitedge", "_VITEDGE_COMPLETE").source())


PLUGIN = completion
