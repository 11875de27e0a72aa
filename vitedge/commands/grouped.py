"""Help in groups: options under the heading that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_GROUP = "vitedge_group"


def option_group(
    *options: Callable[[Command], Command], title: str = ""
) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of the help.

    Args:
        options: Decorators that click made.
        title: Heading of those among them that no inner group has titled; empty leaves them under
            "Options".
    """

    def decorate(command: Command) -> Command:
        before = len(getattr(command, "__click_params__", ()))  # where click notes options
        for option in reversed(options):
            command = option(command)
        for added in getattr(command, "__click_params__", ())[before:]:
            if title and not hasattr(added, _GROUP):
                setattr(added, _GROUP, title)
        return command

    return decorate


class GroupedCommand(click.Command):
    """A command whose help lists its options in groups, those without a title first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes a section for each group."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, _GROUP, "Options"), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
