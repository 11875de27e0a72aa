"""`vitedge deploy`: an artefact and an app go to a device, or into a folder for browsers."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, force_option, json_option
from vitedge.errors import UsageError
from vitedge.terminal.output import echo, print_json


@click.command(cls=GroupedCommand)
@click.argument("artifact", type=PATH)
@click.argument("destination", metavar="HOST:FOLDER")
@click.option("--web", is_flag=True, help="Write a static site into a folder of this machine.")
@force_option
@json_option
def deploy(artifact: Path, destination: str, web: bool, force: bool, as_json: bool) -> None:
    """Copies ARTIFACT, and an app that uses it, to FOLDER of HOST, ready to run.

    \b
    vitedge deploy model.int8.tflite pi@raspberrypi.local:vitedge-camera

    HOST is a name that ssh knows; it needs Python 3.11 or newer, and nothing else. Files of the app
    that you changed there are not overwritten.

    \b
    vitedge deploy --web model.int8.tflite site

    With --web, FOLDER is a folder of this machine. It gets a page for any static host, which runs
    ARTIFACT in the browser that opens it, on camera pictures or photos. npm fetches the engine.
    """  # noqa: D301  # click's mark for "do not wrap" is the character itself
    if web:
        _deploy_site(artifact, Path(destination), force=force, as_json=as_json)
        return
    if force:
        raise UsageError("--force is for --web; on a device, files that you changed are kept")
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


def _deploy_site(artifact: Path, folder: Path, *, force: bool, as_json: bool) -> None:
    from vitedge.terminal.display import progress_on_stderr
    from vitedge.website.write import write_site

    with progress_on_stderr() as progress:
        site = write_site(artifact, folder, force=force, progress=progress)
    if as_json:
        found = {"folder": str(folder), "files": list(site.files), "megabytes": site.megabytes}
        print_json(found)
        return
    echo(f"{folder} holds the site, {site.megabytes:.0f} MB; copy it to any host of static files")
    echo(f"try it here: python3 -m http.server --directory {shlex.quote(str(folder))}")


PLUGIN = deploy
