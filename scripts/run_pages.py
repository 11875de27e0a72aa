"""Runs the commands of ``docs/commands`` and writes what they print beneath them.

``python scripts/run_pages.py`` runs them in one folder after those of the first page, which makes
the photos, the model and the artefacts that they use. The slow test of the documentation runs the
same commands and looks at their exit codes only, since times and losses differ from run to run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.test_docs import BLOCK, COMMAND_PAGES, DOCS, blocks, commands_of

_COLUMNS = 100
_ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "COLUMNS": str(_COLUMNS),
}


def main() -> None:
    """Runs everything."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, text in blocks("index")[:5]:
            for command in commands_of(kind, text):
                _output(command, folder)
        for page in COMMAND_PAGES:
            path = DOCS / f"{page}.md"
            path.write_text(BLOCK.sub(lambda found: _filled(found, folder), path.read_text()))
            print(page, flush=True)


def _filled(block: re.Match[str], folder: str) -> str:
    """A block with each of its commands above what it prints now."""
    kind, text = block[1], block[2]
    if kind != "console":
        return block[0]
    lines = []
    for line in text.splitlines():
        if line.startswith("$ "):
            (command,) = commands_of(kind, line)
            lines += [line, *_output(command, folder).splitlines()]
    return "\n".join(["```console", *map(str.rstrip, lines), "```"])


def _output(command: list[str], folder: str) -> str:
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True
    )
    print(f"{time.monotonic() - started:.0f} s: {command[-1]}", flush=True)
    return done.stdout


if __name__ == "__main__":
    main()
