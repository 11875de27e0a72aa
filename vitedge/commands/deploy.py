"""`vitedge deploy`: an artefact and the example app go to a device, ready to run."""

from __future__ import annotations

from pathlib import Path

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, json_option
from vitedge.terminal.output import echo, print_json


@click.command(cls=GroupedCommand)
@click.argument("artifact", type=PATH)
@click.argument("destination", metavar="HOST:FOLDER")
@json_option
def deploy(artifact: Path, destination: str, as_json: bool) -> None:
    """Leaves ARTIFACT and an app that uses it in FOLDER of HOST, ready to run.

    \b
    vitedge deploy model.int8.tflite pi@raspberrypi.local:vitedge-camera

    HOST is what ssh takes; nothing but Python 3.11 or newer need be installed there. Files of the
    app that were changed there are left as they are.
    """  # noqa: D301  # click's mark for "do not wrap" is the character itself
    from vitedge.remote.deploy import deploy
    from vitedge.terminal.display import progress_on_stderr

    with progress_on_stderr() as progress:
        deployed = deploy(artifact, destination, progress=progress)
    if as_json:
        print_json({"host": deployed.host, "folder": deployed.folder, "run": deployed.command})
        return
    for name in deployed.kept:
        echo(f"{name} was changed there and left as it is", err=True)
    echo(f"on {deployed.host} run: {deployed.command}")


PLUGIN = deploy
