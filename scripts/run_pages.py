"""Runs the commands of ``docs/commands`` and writes what they print beneath them.

``python scripts/run_pages.py FOLDER`` first runs the commands of the first page in FOLDER, which
make the photos, the model and the artefacts that the others use, unless the model is there already:
training takes two minutes of a core. Each command is printed with its time as it ends, so an
interrupted run shows where it was. Lines that depend on how busy the machine is are left out. The
slow test of the documentation runs the same commands and looks only at their exit codes, because
times and losses differ from run to run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.test_docs import BLOCK, COMMAND_PAGES, DOCS, blocks, commands_of

_ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "COLUMNS": "100",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

# The first page's photos, model, artefacts, numbers and pick.
_FIRST_BLOCKS = 5

# Facts of the machine of the day, not of the command.
_OF_THE_MACHINE = re.compile(
    r"^(?:the machine was busy|all times are unstable|\S+ on \S+: times are unstable)"
)
_IN_BRACKETS = re.compile(r" \(unstable: [^)]*\)")


def main() -> None:
    """Runs everything."""
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/run_pages.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "digits.keras").exists():
        for kind, text in blocks("index")[:_FIRST_BLOCKS]:
            for command in commands_of(kind, text):
                _output(command, folder)
    for page in COMMAND_PAGES:
        path = DOCS / f"{page}.md"
        path.write_text(BLOCK.sub(lambda found: _filled(found, folder), path.read_text()))


def _filled(block: re.Match[str], folder: Path) -> str:
    """A block with each of its commands above what it prints now."""
    kind, text = block[1], block[2]
    if kind != "console":
        return block[0]
    lines = []
    for line in text.splitlines():
        if line.startswith("$ "):
            (command,) = commands_of(kind, line)
            lines += [line, *_shown(_output(command, folder))]
    return "\n".join(["```console", *map(str.rstrip, lines), "```"])


def _shown(output: str) -> Iterator[str]:
    home = str(Path.home())
    for line in output.splitlines():
        if not _OF_THE_MACHINE.search(line):
            yield _IN_BRACKETS.sub("", line).replace(home, "~")


def _output(command: list[str], folder: Path) -> str:
    begun = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=_ENVIRONMENT, capture_output=True, text=True, check=False
    )
    print(f"{time.monotonic() - begun:4.0f} s  {command[-1].splitlines()[0]}", flush=True)
    if done.returncode != 0:
        sys.exit(f"exit code {done.returncode}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
