"""What converting costs as models grow: seconds and peak memory, each size in its own process.

Run: ``python benchmarks/convert_cost.py [--sizes tiny base] [--precisions int8] [--images 24]``.
Models have random weights and are written as timm's ``.safetensors``; what is measured is
``vitedge.pipeline.convert`` from that file to all artefacts asked for, checked in their runtimes.
Processor seconds are those of all threads: on a busy machine they say more than the wall clock.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from plain_parameters import parameters_of

from vitedge.artifacts.metadata import size_of
from vitedge.elements.plain_vit import Block, PlainViT
from vitedge.elements.presets import initialize, preset
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.preprocess import Preprocessing
from vitedge.images.synthetic import synthetic_images
from vitedge.importers import ImportOptions
from vitedge.machine.memory import peak_rss_mb
from vitedge.network.operators import Array, Linear, Norm
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

SIZES = ("tiny", "small", "base", "large", "huge")

DINOV3 = "dinov3-large"
"""DINOv3's trunk of 300 million parameters, by its shapes: registers, rotary positions, LayerScale,
no classifier."""

MINIATURE = "miniature"
"""A size for a look at whether everything runs."""


@dataclass(frozen=True)
class Job:
    """What one process converts.

    Attributes:
        size: Name of the size.
        source: The checkpoint.
        formats: Formats to write.
        precisions: Precisions to write in each.
        images: Folder of calibration images, or None for synthetic ones.
        count: How many images to calibrate on.
    """

    size: str
    source: Path
    formats: tuple[Format, ...]
    precisions: tuple[Precision, ...]
    images: Path | None
    count: int


@dataclass(frozen=True)
class Cost:
    """One measurement.

    Attributes:
        size: Name of the size.
        parameters: Number of weights.
        precisions: What was written in each format.
        seconds: By the wall clock.
        processor_seconds: Of all threads.
        peak_gib: High-water mark of the process's memory.
        written_mb: All artefacts together, in 10^6 bytes.
        stages: Wall-clock seconds of each stage that the pipeline names.
        refused: What a format could not hold, in its own words.
    """

    size: str
    parameters: int
    precisions: list[str]
    seconds: float
    processor_seconds: float
    peak_gib: float | None
    written_mb: float
    stages: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


class _Stopwatch:
    """A progress callback that adds up the time of each stage."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._stage, self._since = "", time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now


def measure(job: Job, result: Path) -> None:
    """Converts, and writes the cost."""
    watch, refused = _Stopwatch(), list[str]()
    with tempfile.TemporaryDirectory(dir=job.source.parent) as folder:
        architecture = "vit_large_patch16_dinov3" if job.size == DINOV3 else None
        importing = ImportOptions(architecture=architecture)
        options = ConvertOptions(job.formats, job.precisions, Path(folder), importing=importing)
        started, worked = time.perf_counter(), time.process_time()
        written = convert(
            job.source,
            options,
            calibration=_images(job),
            progress=watch,
            on_refusal=lambda path, error: refused.append(f"{path.name}: {error}"),
        )
        seconds, processor_seconds = time.perf_counter() - started, time.process_time() - worked
        total = sum(size_of(each.path) for each in written)
    peak_mb = peak_rss_mb()
    cost = Cost(
        size=job.size,
        parameters=written[0].metadata.parameters if written else 0,
        precisions=[str(each) for each in job.precisions],
        seconds=seconds,
        processor_seconds=processor_seconds,
        peak_gib=None if peak_mb is None else peak_mb * 1e6 / 2**30,
        written_mb=total / 1e6,
        stages=dict(watch.seconds),
        refused=refused,
    )
    result.write_text(json.dumps(asdict(cost)))


def _images(job: Job) -> ImageSet:
    if job.images is None:
        return synthetic_images(_preprocessing(job.size), job.count, seed=0)
    found = open_images(job.images)
    return ImageSet(found.name, found.samples[: job.count], found.class_names)


# --- the models -----------------------------------------------------------------------------------


def save_model(size: str, path: Path) -> None:
    """Writes a ViT with random weights under timm's names."""
    from safetensors.numpy import save_file

    if size == DINOV3:
        config = preset("large", classes=1, image_size=256)
        save_file(_as_dinov3(parameters_of(initialize(config, _preprocessing(size)))), path)
        return
    if size == MINIATURE:
        config = preset("tiny", classes=10, image_size=32, patch_size=8, dim=64, heads=1, depth=2)
    else:
        config = preset(size, classes=1000)
    save_file(_timm_arrays(parameters_of(initialize(config, _preprocessing(size)))), path)


def _preprocessing(size: str) -> Preprocessing:
    if size == DINOV3:
        return Preprocessing((256, 256))
    # As timm's models of that name are evaluated, by what the importer takes for given.
    return Preprocessing((32, 32)) if size == MINIATURE else Preprocessing((224, 224), resize=248)


def _timm_arrays(vit: PlainViT) -> dict[str, Array]:
    config, dim = vit.config, vit.config.dim
    patches = vit.patch.weight.reshape(*config.patch_size, config.channels, dim)
    arrays = {
        "cls_token": vit.prefix[None],
        "pos_embed": np.concatenate([np.zeros_like(vit.prefix), vit.positions])[None],
        "patch_embed.proj.weight": np.ascontiguousarray(patches.transpose(3, 2, 0, 1)),
        "patch_embed.proj.bias": vit.patch.bias,
        **_linear("head", vit.head),
    }
    if vit.norm is not None:
        arrays |= _norm("norm", vit.norm)
    for index, block in enumerate(vit.blocks):
        arrays |= _block(f"blocks.{index}", block)
    return arrays


def _as_dinov3(vit: PlainViT) -> dict[str, Array]:
    """The arrays of timm's ``vit_large_patch16_dinov3``."""
    dim = vit.config.dim
    absent = ("pos_embed", "head.weight", "head.bias")
    arrays = {
        name: values
        for name, values in _timm_arrays(vit).items()
        if name not in absent and not name.endswith("qkv.bias")
    }
    arrays["reg_token"] = np.repeat(arrays["cls_token"], 4, axis=1)
    for index in range(vit.config.depth):
        for gamma in ("gamma_1", "gamma_2"):
            arrays[f"blocks.{index}.{gamma}"] = np.full(dim, 0.5, np.float32)
    return arrays


def _block(name: str, block: Block) -> dict[str, Array]:
    joined = Linear(
        np.concatenate([block.q.weight, block.k.weight, block.v.weight], axis=1),
        np.concatenate([block.q.bias, block.k.bias, block.v.bias]),
    )
    return {
        **_norm(f"{name}.norm1", block.norm1),
        **_linear(f"{name}.attn.qkv", joined),
        **_linear(f"{name}.attn.proj", block.out),
        **_norm(f"{name}.norm2", block.norm2),
        **_linear(f"{name}.mlp.fc1", block.fc1),
        **_linear(f"{name}.mlp.fc2", block.fc2),
    }


def _linear(name: str, layer: Linear) -> dict[str, Array]:
    return {f"{name}.weight": np.ascontiguousarray(layer.weight.T), f"{name}.bias": layer.bias}


def _norm(name: str, norm: Norm) -> dict[str, Array]:
    return {f"{name}.weight": norm.gamma, f"{name}.bias": norm.beta}


# --- the program ----------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--sizes", nargs="*", choices=(*SIZES, DINOV3, MINIATURE), default=list(SIZES)
    )
    parser.add_argument("--precisions", nargs="*", type=Precision, default=["fp16", "int8"])
    parser.add_argument("--formats", nargs="*", type=Format, default=list(all_formats()))
    parser.add_argument("--calibration", type=Path, help="folder of images [default: synthetic]")
    parser.add_argument("--images", type=int, default=24, help="how many to calibrate on")
    parser.add_argument("--folder", type=Path, help="for models [default: a temporary one]")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    costs = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for size in arguments.sizes:
            source, result = Path(folder) / "model.safetensors", Path(folder) / "cost.json"
            job = Job(
                size,
                source,
                tuple(arguments.formats),
                tuple(Precision(each) for each in arguments.precisions),
                arguments.calibration,
                arguments.images,
            )
            _in_a_process(save_model, size, source)
            _in_a_process(measure, job, result)
            costs.append(Cost(**json.loads(result.read_text())))
            print(_row(costs[-1]), file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=2))
        return
    system = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{system}, {arguments.images} calibration images, n = 1\n")
    print("| size | parameters | artefacts | s | processor s | peak GiB | written MB |")
    print("|---|--:|---|--:|--:|--:|--:|")
    print("\n".join(map(_row, costs)))
    for cost in costs:
        print(f"\n{cost.size}: {_stages(cost)}")
        print("\n".join(cost.refused))


def _in_a_process(target: object, *values: object) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=values)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"a process ended with {process.exitcode}")


def _row(cost: Cost) -> str:
    peak = "" if cost.peak_gib is None else f"{cost.peak_gib:.2f}"
    return (
        f"| {cost.size} | {cost.parameters:,} | {' '.join(cost.precisions)} | {cost.seconds:.1f} | "
        f"{cost.processor_seconds:.1f} | {peak} | {cost.written_mb:.0f} |"
    )


def _stages(cost: Cost) -> str:
    return ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in cost.stages.items())


if __name__ == "__main__":
    main()
