"""Messages between the bench and its worker processes: one JSON object a line.

The bench sends a command and reads answers until one that is not ``Progress``. A worker that
cannot obey answers ``Failed``; one that dies answers nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Probe:
    """Asks whether a target can run here. Answer: ``Probed``.

    Attributes:
        target: The target in words.
        compiling: Ask for its compiler instead.
    """

    target: str
    compiling: bool = False


@dataclass(frozen=True)
class Probed:
    """The fields of ``runtimes.Availability``."""

    readiness: str
    detail: str
    remedy: str


@dataclass(frozen=True)
class Open:
    """Loads an artefact and runs it once. Answer: ``Opened``.

    Attributes:
        artifact: Path of the file.
        target: The target in words.
        threads: CPU threads.
    """

    artifact: str
    target: str
    threads: int


@dataclass(frozen=True)
class Opened:
    """The artefact is loaded.

    Attributes:
        load_ms: Importing the engine and loading the artefact.
        first_run_ms: The first inference, in which engines compile and allocate.
        input_shape: ``[N, H, W, C]``.
        classes: Number of logits per image, or of all numbers of a map.
        fault: The visible fault of the logits, in words; empty if there is none.
        output_shape: The shape of the output for one image.
    """

    load_ms: float
    first_run_ms: float
    input_shape: list[int]
    classes: int
    fault: str
    output_shape: list[int]


@dataclass(frozen=True)
class WarmUp:
    """Runs the artefact until its latency no longer falls. Answer: ``WarmedUp``."""

    max_seconds: float


@dataclass(frozen=True)
class WarmedUp:
    """The runs of the warm-up in order, and whether they ended stable."""

    samples_ms: list[float]
    stable: bool


@dataclass(frozen=True)
class Measure:
    """Times single inferences. Answer: ``Measured``.

    Attributes:
        runs: Exactly so many; None lets the budgets below decide.
        settling_runs: Untimed runs before, where another process has had the caches.
        enough_runs: Stop here at the latest.
        enough_seconds: Stop after this time once ``wanted_runs`` are done.
        wanted_runs: Go on to this number past ``enough_seconds``.
        max_seconds: Stop after this time in any case.
    """

    runs: int | None
    settling_runs: int = 0
    enough_runs: int = 1000
    enough_seconds: float = 5.0
    wanted_runs: int = 100
    max_seconds: float = 60.0


@dataclass(frozen=True)
class Measured:
    """The runs.

    Attributes:
        samples_ms: Milliseconds of each, in order.
        others_percent: Percent of all processors' time that other programs had meanwhile, or None.
    """

    samples_ms: list[float]
    others_percent: float | None


@dataclass(frozen=True)
class Saturate:
    """Runs several sessions of the opened artefact at once. Answer: ``Saturated``.

    Attributes:
        parallel: The number of sessions.
        threads: CPU threads of each.
        seconds: The time during which runs may begin.
    """

    parallel: int
    threads: int
    seconds: float


@dataclass(frozen=True)
class Saturated:
    """The number of images that went through, and the seconds."""

    images: int
    seconds: float


@dataclass(frozen=True)
class Inspect:
    """Asks for memory and placement. Answer: ``Inspected``."""


@dataclass(frozen=True)
class Inspected:
    """The memory that the process needed so far, and the placement of the nodes.

    Attributes:
        peak_rss_mb: Peak resident memory in 10^6 bytes; None where the system does not tell.
        on_device: Nodes on the device; None when the runtime does not tell.
        total: Nodes of the graph; None when the runtime does not tell.
        estimate: The speed that the device's compiler predicts, in words.
    """

    peak_rss_mb: float | None
    on_device: int | None
    total: int | None
    estimate: str = ""


@dataclass(frozen=True)
class Infer:
    """Computes the logits of many images. Answers: ``Progress`` ..., ``Inferred``.

    Attributes:
        images: Index file that ``spool.write_spool`` wrote.
        preprocessing: ``Preprocessing.to_dict()``.
        logits: The file of ``logits.LogitsWriter``; rows that it has are not computed again.
        classes: Logits of an image.
    """

    images: str
    preprocessing: dict[str, Any]
    logits: str
    classes: int


@dataclass(frozen=True)
class Inferred:
    """The logits are written.

    Attributes:
        n: Images in the set.
        unreadable: Positions of those that could not be decoded, with the reason.
        preprocess_ms: Time of each image, of the first thousand.
        inference_ms: Time of each run, of the first thousand.
        postprocess_ms: Time of each run's softmax and ranking, of the first thousand.
        prepared: Images that were prepared as an app there does it, too; 0 where apps use our code.
        prepared_alike: The number of those images that have the same top class as with our pixels.
        prepared_largest: Largest difference of a pixel, of 255.
        prepared_mean: Mean absolute difference of the pixels.
    """

    n: int
    unreadable: list[tuple[int, str]]
    preprocess_ms: list[float]
    inference_ms: list[float]
    postprocess_ms: list[float]
    prepared: int = 0
    prepared_alike: int = 0
    prepared_largest: int = 0
    prepared_mean: float = 0.0


@dataclass(frozen=True)
class Progress:
    """A sign of life within a long command."""

    done: int


@dataclass(frozen=True)
class Failed:
    """A command could not be obeyed.

    Attributes:
        unavailable: The runtime or device is not here (else the artefact or the run failed).
        message: One line.
        fallback: The device cannot run all operators of the artefact.
    """

    unavailable: bool
    message: str
    fallback: bool = False


Command: TypeAlias = Probe | Open | WarmUp | Measure | Saturate | Inspect | Infer
Answer: TypeAlias = (
    Probed | Opened | WarmedUp | Measured | Saturated | Inspected | Inferred | Progress | Failed
)

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Probe, Open, WarmUp, Measure, Saturate, Inspect, Infer),
        *(Probed, Opened, WarmedUp, Measured, Saturated, Inspected, Inferred, Progress, Failed),
    )
}


def encode(message: Command | Answer) -> str:
    """One line without its end."""
    return json.dumps({"kind": type(message).__name__} | asdict(message))


def decode(line: str) -> Any:
    """The message on one line.

    Raises:
        ValueError: The line is none.
    """
    try:
        values = json.loads(line)
        return _KINDS[values.pop("kind")](**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a message: {line[:100]!r}") from error
