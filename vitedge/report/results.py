"""The findings of a bench, and their JSON.

Milliseconds are wall time, MB are 10^6 bytes, and every share is in percent, 0..100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from vitedge.machine.environment import Environment
from vitedge.report.quality import Accuracy, Preparation, TaskQuality, VsFloat
from vitedge.report.shown import Block, Shown
from vitedge.runtimes import Placement
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target
from vitedge.terminal.printable import json_text


class Status(StrEnum):
    """The verdict on a row; when several hold, the first of these."""

    UNAVAILABLE = "UNAVAILABLE"
    """The target cannot run here."""
    CRASHED = "CRASHED"
    """The process died."""
    TIMEOUT = "TIMEOUT"
    """The process gave no sign of life."""
    ERROR = "ERROR"
    """The runtime refused the artefact or failed on it."""
    DRIFT = "DRIFT"
    """The logits are wrong on this target."""
    FALLBACK = "FALLBACK"
    """Nodes ran elsewhere than on the device asked for."""
    SLOWER = "SLOWER"
    """Slower than the float32 artefact of the same format on the same target in this run."""
    OK = "OK"


@dataclass(frozen=True)
class Spread:
    """A summary of times in milliseconds; a percentile that ``n`` does not allow is None."""

    min: float
    p50: float | None
    p90: float | None
    p99: float | None
    mean: float
    n: int


@dataclass(frozen=True)
class Ratio:
    """Latency over another row's, measured in turns, pair by pair.

    Attributes:
        baseline: Artefact of the other row, on the same target.
        median: Median of the pairs' ratios; under 1 is faster.
        low: Lower end of the median's interval of at least 95 % (order statistics).
        high: Upper end.
        n: Pairs.
    """

    baseline: str
    median: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Window:
    """A few seconds of a sustained run.

    Attributes:
        minute: The end of the minute, from the start of the run.
        median_ms: Median latency in it.
        n: Inferences in it.
        temperature_c: Hottest thermal zone at its end, or None.
        frequency_mhz: Mean clock frequency of the processors at its end, or None.
    """

    minute: float
    median_ms: float
    n: int
    temperature_c: float | None
    frequency_mhz: float | None


@dataclass(frozen=True)
class Throughput:
    """The throughput of sessions in parallel.

    Attributes:
        parallel: Sessions at once.
        threads: CPU threads of each.
        images_per_second: All together.
    """

    parallel: int
    threads: int
    images_per_second: float


@dataclass(frozen=True)
class Row:
    """One artefact on one target.

    Attributes:
        artifact: Path as it was given.
        target: Runtime and device.
        format: Format of the file.
        precision: The precision in the artefact's metadata; None if vitedge did not write it.
        status: The verdict.
        message: The verdict in words; empty when there is nothing to say.
        size_mb: All files of the artefact.
        load_ms: Importing the engine and loading the artefact, files in the page cache or not.
        first_run_ms: The first inference.
        latency_ms: Warm inferences of one batch: uint8 pixels to float32 logits.
        peak_rss_mb: Peak memory of the process that only ran the artefact, Python included.
        accuracy: Against labels.
        vs_float: Against the reference.
        placement: Nodes on the device, of all.
        emulated: An emulator ran it: accuracy counts, and times are not shown.
        batch: Images per inference.
        threads: CPU threads asked for.
        source: Name of the model that the artefact was made from.
        source_sha256: Its digest.
        preprocess_ms: Decoding, resizing and cropping one image.
        postprocess_ms: Softmax and ranking of one batch.
        warm_up_runs: Inferences before those that count.
        unstable: The reason why the times are unreliable; empty if they are reliable.
        samples_ms: Each warm inference, in order.
        others_percent: Percent of all processors' time that other programs had meanwhile.
        ratio: Against the float32 artefact, when measured in turns.
        sustained: The course of the latency over minutes.
        throughput: Sessions in parallel.
        energy_mj: Energy of the whole processor per inference in millijoule, idle share included.
        battery_mj: The battery's energy per inference in millijoule: the whole device, screen
            included. None if there is no battery, or it is charging.
        task_quality: The quality of an artefact that names no classes, in place of accuracy.
        merges_tokens: Whether it merges tokens, so that it computes something else than its source
            on purpose.
        merging: The places where tokens are merged, in words; empty if it merges none.
        narrowing: The heads and hidden channels that were removed from its source, in words; empty
            if none were.
        preparation: The effect of the target's own way to prepare images; None if apps there
            prepare them as the bench does.
    """

    artifact: str
    target: Target
    format: Format
    precision: Precision | None
    status: Status
    message: str
    size_mb: float
    load_ms: float | None
    first_run_ms: float | None
    latency_ms: Spread | None
    peak_rss_mb: float | None
    accuracy: Accuracy | None
    vs_float: VsFloat | None
    placement: Placement | None
    emulated: bool
    batch: int | None
    threads: int
    source: str | None
    source_sha256: str | None
    preprocess_ms: Spread | None
    postprocess_ms: Spread | None
    warm_up_runs: int | None
    unstable: str
    samples_ms: tuple[float, ...]
    others_percent: float | None = None
    ratio: Ratio | None = None
    sustained: tuple[Window, ...] = ()
    throughput: tuple[Throughput, ...] = ()
    energy_mj: float | None = None
    battery_mj: float | None = None
    task_quality: TaskQuality | None = None
    merges_tokens: bool = False
    merging: str = ""
    narrowing: str = ""
    preparation: Preparation | None = None

    @property
    def placed(self) -> str:
        """Nodes on the device, of all, in words; empty where nobody could ask."""
        if self.placement is not None:
            return f"{self.placement.on_device}/{self.placement.total}"
        # In a page there is an engine that was asked, and does not tell.
        return "not told" if self.was_loaded and self.target.device.startswith("web") else ""

    @property
    def was_loaded(self) -> bool:
        """Whether the runtime loaded the artefact and ran it once; emulated ones show no times."""
        return self.batch is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the target in words. Only what names no classes has ``task_quality``."""
        values = asdict(self) | {"target": str(self.target)}
        if self.task_quality is None:
            del values["task_quality"]
        return values


@dataclass(frozen=True)
class DataUsed:
    """The images that accuracy was measured on.

    Attributes:
        name: Name of the set.
        n: Images in it.
        unreadable: The images that could not be decoded, with the reason; no row counts them.
        sha256: Digest of the images' names, labels and sizes in bytes, in order.
    """

    name: str
    n: int
    unreadable: tuple[str, ...]
    sha256: str = ""


@dataclass(frozen=True)
class LayerError:
    """The part of the signal that is left behind one layer.

    Attributes:
        name: The layer.
        sqnr_db: Power of the reference's output over power of the difference, in decibel; None when
            they are equal to the bit.
    """

    name: str
    sqnr_db: float | None


@dataclass(frozen=True)
class LayerErrors:
    """One artefact compared with its model layer by layer.

    Attributes:
        artifact: Its path.
        format: Format of the file.
        precision: The precision in the artefact's metadata, or None.
        layers: The layers, in the model's order.
    """

    artifact: str
    format: Format
    precision: Precision | None
    layers: tuple[LayerError, ...]


@dataclass(frozen=True)
class MadeBy:
    """The way in which an artefact of a pick was made.

    Attributes:
        artifact: Its path.
        savings: The work that it leaves out, such as ``tokens 0.7``; empty where it does all.
        command: The command that makes it again; empty when there is none.
    """

    artifact: str
    savings: str
    command: str


@dataclass(frozen=True)
class Pick:
    """The artefact of the report to ship.

    Attributes:
        artifact: Its path, or None when none ran as it should.
        target: The target of the measurement.
        meets_budget: Whether it is within the budget, or only the nearest to it.
        words: The reason for the choice, its cost, and how sure that is.
        command: The command that makes it again; empty if there is none.
        max_drop: Budget: top-1 that may be lost, in percentage points.
        max_latency_ms: Budget: median latency, or None.
        max_size_mb: Budget: size, or None.
        front: Artefacts, with their targets, that no other beats in accuracy, latency and size.
        made_by: The way in which each artefact that could be shipped was made.
    """

    artifact: str | None
    target: str | None
    meets_budget: bool
    words: str
    command: str
    max_drop: float
    max_latency_ms: float | None
    max_size_mb: float | None
    front: tuple[str, ...]
    made_by: tuple[MadeBy, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A target that was neither asked for by name nor measured.

    Attributes:
        target: Its name.
        readiness: ``emulated`` or ``missing``.
        detail: The missing thing, or the emulator.
    """

    target: str
    readiness: str
    detail: str


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """Everything one bench found.

    Attributes:
        environment: The machine.
        rows: One per artefact and target.
        data: The images, or None when there were none.
        reference: Name of what the logits were compared with, or None.
        command: The command line that made it, or empty.
        thumbnails: Small JPEGs as ``data:`` addresses, by name, of images that some row flips.
        pick: The row to ship, if that was asked.
        layers: Artefacts compared with their model layer by layer, when that was asked.
        left_out: Targets that could read the artefacts and were not measured.
    """

    environment: Environment
    rows: tuple[Row, ...]
    data: DataUsed | None = None
    reference: str | None = None
    command: str = ""
    thumbnails: Mapping[str, str] = field(default_factory=dict)
    pick: Pick | None = None
    layers: tuple[LayerErrors, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def blocks(self, width: int | None) -> Sequence[Block]:
        """The table of the rows, what it has no room for, and the conclusion."""
        from vitedge.report.summary import summary
        from vitedge.report.text_table import blocks

        return [*blocks(self, width), summary(self)]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``environment`` and ``rows`` are the parts to rely on."""
        return {
            "command": self.command,
            "environment": asdict(self.environment),
            "data": None if self.data is None else asdict(self.data),
            "reference": self.reference,
            "pick": None if self.pick is None else asdict(self.pick),
            "thumbnails": dict(self.thumbnails),
            "layers": [asdict(each) for each in self.layers],
            "left_out": [asdict(each) for each in self.left_out],
            "rows": [row.to_dict() for row in self.rows],
        }

    def to_json(self) -> str:
        """Indented JSON, without NaN or infinity."""
        return json_text(self.to_dict(), allow_nan=False)
