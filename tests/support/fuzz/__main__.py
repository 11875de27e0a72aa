"""``python -m tests.support.fuzz``: feeds malformed files to the parsers, and counts outcomes."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.fuzz.monitor import TIME_LIMIT_SECONDS, Monitor, save_finding, working_folder
from tests.support.fuzz.parsers import all_parsers
from tests.support.fuzz.worker import Answer, Outcome

_LEAST = 3
"""Inputs that each parser gets however little time there is."""


@dataclass
class Tally:
    """What became of one parser's inputs.

    Attributes:
        outcomes: How many had which outcome.
        findings: How many had which kind of finding.
        told: Crashes of an engine that ``vitedge predict`` reports in one line.
        peak_mb: Most memory of any input.
        slowest: Most seconds of any input.
        seconds: Of all of them.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    told: int = 0
    peak_mb: int = 0
    slowest: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        told = f", {self.told} crashes told in one line" if self.told else ""
        return (
            f"{self.outcomes.total():6} inputs, {self.outcomes[Outcome.ACCEPTED]:5} accepted, "
            f"{self.outcomes[Outcome.REFUSED]:6} refused, {self.findings.total():3} findings"
            f"{told}; slowest {self.slowest:.1f} s, peak {self.peak_mb} MB, {self.seconds:.0f} s"
        )


def main() -> int:
    """Runs the program; returns 1 when anything was found."""
    options = _options()
    names = options.parsers or list(all_parsers())
    with working_folder() as folder, Monitor(folder) as monitor:
        if options.input is not None or options.replay is not None:
            answer = monitor.read(names[0], options.seed, options.replay or 0, path=options.input)
            print(f"{answer.outcome}: {answer.words}")
            return int(answer.outcome.is_finding)
        print(f"seed {options.seed}, findings go to {options.findings}/", flush=True)
        share = options.seconds / len(names) if options.seconds else None
        found = 0
        for name in names:
            monitor.prepare(name)
            tally = _fuzz(monitor, name, options, share)
            print(f"{name:22}{tally}", flush=True)
            for signature, count in tally.findings.most_common():
                print(f"    {count} x {signature}", flush=True)
            found += tally.findings.total()
    return int(found > 0)


def _fuzz(monitor: Monitor, name: str, options: argparse.Namespace, seconds: float | None) -> Tally:
    tally, start = Tally(), time.monotonic()
    parser = all_parsers()[name]
    for number in range(options.start, options.start + options.inputs):
        tally.seconds = time.monotonic() - start
        if seconds is not None and tally.seconds > seconds and tally.outcomes.total() >= _LEAST:
            break
        answer = monitor.read(name, options.seed, number)
        if answer.outcome is Outcome.CRASH and parser.loads_engine and is_told(Path(answer.path)):
            tally.told += 1
            answer = Answer(Outcome.REFUSED)
        tally.outcomes[answer.outcome] += 1
        tally.peak_mb = max(tally.peak_mb, answer.peak_mb)
        tally.slowest = max(tally.slowest, answer.seconds)
        if answer.outcome.is_finding:
            signature = f"{answer.outcome}: {answer.signature}"
            if signature not in tally.findings:
                saved = save_finding(options.findings, name, options.seed, number, answer)
                print(f"{name}: {signature}\n    {saved.command}", flush=True)
            tally.findings[signature] += 1
    tally.seconds = time.monotonic() - start
    return tally


def is_told(path: Path) -> bool:
    """Whether ``vitedge predict`` ends with one line where the engine crashes."""
    photo = path.with_name("photo.png")
    from PIL import Image

    Image.new("L", (16, 16)).save(photo)
    command = [sys.executable, "-m", "vitedge", "predict", str(path), str(photo)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=TIME_LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    lines = done.stderr.strip().splitlines()
    return done.returncode == 1 and len(lines) == 1 and lines[0].startswith("Error: ")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz", description=__doc__)
    parser.add_argument("parsers", nargs="*", help="which of them; all unless given")
    parser.add_argument("--seconds", type=float, help="time for all inputs, imports apart")
    parser.add_argument("--inputs", type=int, default=10_000, help="most inputs of each")
    parser.add_argument(
        "--seed", type=int, help="what the inputs are drawn by; random unless given"
    )
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--replay", type=int, help="make the input of this number and read it")
    parser.add_argument("--input", type=Path, help="read this file or folder")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.randrange(1 << 32)
    unknown = sorted(set(options.parsers) - set(all_parsers()))
    if unknown:
        parser.error(f"no parser {unknown[0]}; there are {' '.join(all_parsers())}")
    if (options.replay is not None or options.input) and len(options.parsers) != 1:
        parser.error("name the one parser that reads the input")
    return options


if __name__ == "__main__":
    sys.exit(main())
