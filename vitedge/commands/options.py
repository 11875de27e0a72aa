"""Options that several commands share, and how they become what functions take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.shell_completion import CompletionItem

from vitedge.commands.grouped import option_group
from vitedge.errors import UsageError
from vitedge.images.interpolation import Interpolation
from vitedge.network.kinds import MLP_ACTIVATIONS
from vitedge.network.tasks import Task
from vitedge.targets.precisions import all_precisions

if TYPE_CHECKING:
    from vitedge.api.options import SourceOptions

PATH = click.Path(path_type=Path)


class ImageSize(click.ParamType[tuple[int, int]]):
    """``224`` for a square, ``HEIGHTxWIDTH`` for anything else."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Height and width."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d{1,6})(?:[x×](\d{1,6}))?", str(value).strip().lower())
        size = () if found is None else (int(found[1]), int(found[2] or found[1]))
        if not size or min(size) < 1:
            self.fail(f"{value!r} is not a size: give 224, or height x width as 32x64", param, ctx)
        return size


IMAGE_SIZE = ImageSize()


class TargetName(click.ParamType[str]):
    """``<runtime>-<device>``; shells complete it."""

    name = "target"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The targets that some runtime here knows."""
        from vitedge.runtimes import targets

        return [CompletionItem(str(each)) for each in targets() if str(each).startswith(incomplete)]


TARGET = TargetName()

SHIPPED_TARGETS = (
    *("tflite-cpu", "tflite-gpu", "tflite-npu", "tflite-web", "tflite-web-gpu", "ethos-u"),
    *("onnx-cpu", "onnx-cuda", "onnx-webgpu", "onnx-web", "onnx-web-gpu"),
    *("onnx-qnn", "onnx-openvino", "onnx-coreml", "onnx-xnnpack"),
    *("openvino-cpu", "openvino-gpu", "openvino-npu"),
)
"""Written out, because help answers without asking runtimes; a test compares them."""

TARGETS_IN_WORDS = f"Targets: {', '.join(SHIPPED_TARGETS)}; `vitedge targets` says which are ready."

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, not text.")
strict_option = click.option(
    "--strict",
    is_flag=True,
    help="Treat an unreadable image as an error instead of leaving it out.",
)
force_option = click.option("--force", is_flag=True, help="Overwrite what exists.")
model_output_option = click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("model.keras"),
    show_default=True,
    help="File to write.",
)


precision_options = option_group(
    *(
        click.option(
            f"--{precision}",
            "precisions",
            flag_value=str(precision),
            multiple=True,
            help=precision.row.help,
        )
        for precision in all_precisions()
    ),
    title="Precisions  [default: --int8]",
)

trust_options = option_group(
    click.option("--trust", is_flag=True, help="Let code inside the model file run."),
    click.option(
        "--custom-objects", multiple=True, metavar="MODULE:NAME", help="Your own Keras layer."
    ),
)

# What a person may say about a source that the file itself does not.
import_options = option_group(
    click.option("--heads", type=click.IntRange(1), help="Attention heads per block."),
    click.option(
        "--image-size",
        type=IMAGE_SIZE,
        metavar="SIZE",
        help="Input in pixels, 224 or HEIGHTxWIDTH; positions are interpolated when it differs.",
    ),
    click.option(
        "--activation",
        type=click.Choice([str(each) for each in MLP_ACTIVATIONS]),
        help="Activation of the MLPs.",
    ),
    click.option(
        "--norm-eps", type=click.FloatRange(0, 1, min_open=True), help="Epsilon of every norm."
    ),
    click.option("--mean", help="Per-channel mean of pixels in 0..1: 0.5,0.5,0.5"),
    click.option("--std", help="Per-channel standard deviation of pixels in 0..1."),
    click.option(
        "--resize",
        type=click.IntRange(0),
        help="Shorter side before the centre crop; 0 stretches the image to the input.",
    ),
    click.option(
        "--interpolation",
        type=click.Choice([str(each) for each in Interpolation]),
        help="Filter that resizes photos.",
    ),
    click.option("--labels", type=PATH, help="Text file with one class name a line."),
    click.option(
        "--weights",
        metavar="NAME",
        help="Weights to take from a checkpoint that holds several: ema, raw or a name.",
    ),
    click.option(
        "--head",
        metavar="NAME",
        help="Layer beside a checkpoint's model that is its head: classifier.",
    ),
    click.option(
        "--head-activation",
        type=click.Choice([str(each) for each in MLP_ACTIVATIONS]),
        help="Activation between the layers of a head that has several.",
    ),
    click.option(
        "--architecture",
        metavar="NAME",
        help="timm's name of the model, if its weights do not tell: vit_base_patch16_rpn_224.",
    ),
    click.option("--base", type=PATH, help="Model that SOURCE, a LoRA adapter, belongs to."),
    click.option(
        "--logits",
        multiple=True,
        metavar="NAME",
        help="Output to take if there are several, such as logits; two are averaged.",
    ),
    click.option(
        "--beside",
        multiple=True,
        metavar="NAME",
        help="Output to give beside the main one, such as pred_boxes; may be repeated.",
    ),
    click.option(
        "--task",
        type=click.Choice([str(each) for each in Task]),
        help="Meaning of the outputs, if SOURCE does not say it.",
    ),
    trust_options,
    title="Facts that the model's file does not hold",
)


def read_source_options(values: dict[str, Any]) -> SourceOptions:
    """Converts the options that ``import_options`` collected to those of the API.

    Raises:
        UsageError: A number is none.
    """
    mean, std = _numbers(values["mean"], "--mean"), _numbers(values["std"], "--std")
    return cast("SourceOptions", values | {"mean": mean, "std": std})


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} takes numbers with commas between, not '{text}'") from error
