"""`vitedge targets`: what can run here."""

from __future__ import annotations

import click

from vitedge.commands.options import json_option
from vitedge.terminal.output import print_json


@click.command()
@json_option
def targets(as_json: bool) -> None:
    """Lists every target: ready here, or what is missing and the command that brings it."""
    from dataclasses import asdict

    from vitedge.bench.request import probe_targets
    from vitedge.commands.printed.tables import print_targets

    found = probe_targets()
    if as_json:
        print_json([{"target": str(target)} | asdict(state) for target, state in found.items()])
    else:
        print_targets(found)


PLUGIN = targets
