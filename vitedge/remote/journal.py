"""The journal of a bench on a device: one JSON object a line, in a file that outlives it.

The device writes, the host reads, over a connection that may break; whoever starts the bench again
skips what stands there as done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from vitedge.files.json_values import parse_object, text

Event: TypeAlias = dict[str, Any]

_FILE = "events.jsonl"


@dataclass(frozen=True)
class Journal:
    """The events of one job.

    Attributes:
        folder: The job's.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / _FILE

    def write(self, event: Event) -> None:
        """Appends an event, so that it survives a power cut that comes right after."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def mend(self) -> None:
        """Ends a line that a power cut tore, so that the next one is whole."""
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("\n")

    def read(self) -> Iterator[Event]:
        """All whole events; a torn line is what a power cut leaves."""
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = parse_object(line)
                text(event, "event")
            except ValueError:
                continue
            yield dict(event)


@dataclass
class State:
    """The sum of a journal's events.

    Attributes:
        reports: Finished reports, by the number of their part of the bench.
        begun: The number of times that each part was begun.
        boot: The start of the device that the last run belongs to.
        error: The reason why the bench cannot continue; empty if it can.
        ended: Whether all parts are done.
        parts: Names of the parts, in order.
    """

    reports: dict[int, Event] = field(default_factory=dict)
    begun: dict[int, int] = field(default_factory=dict)
    boot: str = ""
    error: str = ""
    ended: bool = False
    parts: list[str] = field(default_factory=list)

    def take(self, event: Mapping[str, Any]) -> None:
        """Adds one event."""
        match event["event"]:
            case "started":
                self.boot, self.parts = str(event["boot"]), [str(part) for part in event["parts"]]
                self.error, self.ended = "", False
            case "begun":
                part = int(event["part"])
                self.begun[part] = self.begun.get(part, 0) + 1
            case "report":
                self.reports[int(event["part"])] = dict(event["report"])
            case "failed":
                self.error = str(event["message"]) or "it gives no reason"
            case "ended":
                self.ended = True

    @property
    def current(self) -> str:
        """The part that was begun and not finished, in words; empty when there is none."""
        named = range(len(self.parts))
        open_parts = [part for part in self.begun if part not in self.reports and part in named]
        return self.parts[open_parts[-1]] if open_parts else ""
