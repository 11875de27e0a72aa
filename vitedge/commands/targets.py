"""`vitedge targets`: what can run here."""

from __future__ import annotations

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import json_option
from vitedge.terminal.output import echo, print_json

_ANDROID = (
    "Android over adb: `vitedge bench --host adb:SERIAL`, tried with adb's server and an emulated "
    "device, not with a phone; a site of `vitedge deploy --web` shows a phone's milliseconds"
)


@click.command(cls=GroupedCommand)
@json_option
def targets(as_json: bool) -> None:
    """Lists every target, the ready ones first; for the others, what is missing."""
    from dataclasses import asdict

    from vitedge.bench.request import probe_targets
    from vitedge.runtimes import Readiness

    found = probe_targets()
    if as_json:
        print_json([{"target": str(target)} | asdict(state) for target, state in found.items()])
        return
    width = max(len(str(target)) for target in found)
    order = [str(each) for each in Readiness]  # the ready ones first
    for target, state in sorted(found.items(), key=lambda each: order.index(each[1].readiness)):
        echo(f"{target!s:{width}}  {state.readiness:8}  {state.remedy or state.detail}")
    echo(_ANDROID)


PLUGIN = targets
