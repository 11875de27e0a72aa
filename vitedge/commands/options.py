"""Options that several commands share, and how they become what functions take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vitedge.errors import UsageError
from vitedge.images.interpolation import Interpolation
from vitedge.network.kinds import Activation
from vitedge.network.tasks import Task
from vitedge.targets.precisions import Precision, precisions
from vitedge.targets.target import Target
from vitedge.terminal.output import warn

if TYPE_CHECKING:
    from vitedge.importers import ImportOptions

Command = TypeVar("Command", bound=Callable[..., Any])

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
            self.fail(f"{value!r} is no size: give 224, or height x width as 32x64", param, ctx)
        return size

    def typed(self, value: Any) -> Any:
        """A value as it is typed; one of another type stays as it is."""
        return "x".join(map(str, value)) if isinstance(value, tuple) else value


IMAGE_SIZE = ImageSize()


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, not text.")
strict_option = click.option(
    "--strict", is_flag=True, help="An image that cannot be read is an error, not left out."
)
force_option = click.option("--force", is_flag=True, help="Overwrite what exists.")


def option_group(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of the help."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


precision_options = option_group(
    *(
        click.option(
            f"--{precision}",
            "precisions",
            flag_value=str(precision),
            multiple=True,
            help=precision.row.help,
        )
        for precision in precisions()
    )
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
    click.option("--activation", type=click.Choice([str(each) for each in Activation])),
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
    click.option("--interpolation", type=click.Choice([str(each) for each in Interpolation])),
    click.option("--labels", type=PATH, help="Text file with one class name a line."),
    click.option(
        "--weights",
        metavar="NAME",
        help="Which weights of a checkpoint that holds several: ema, raw or a name.",
    ),
    click.option(
        "--head-activation",
        type=click.Choice([str(each) for each in Activation]),
        help="Between the layers of a head that has several.",
    ),
    click.option("--base", type=PATH, help="Model that SOURCE, a LoRA adapter, belongs to."),
    click.option(
        "--logits",
        multiple=True,
        metavar="NAME",
        help="Output to take, where there are several, such as logits; two are averaged.",
    ),
    click.option(
        "--task",
        type=click.Choice([str(each) for each in Task]),
        help="What the outputs mean, where SOURCE does not say it.",
    ),
    trust_options,
)

size_options = option_group(
    click.option("--preset", default="tiny", show_default=True, help="tiny, small, base, ..."),
    click.option("--image-size", type=click.IntRange(1), help="Side of the input in pixels."),
    click.option("--patch-size", type=click.IntRange(1), help="Side of a patch in pixels."),
    click.option("--dim", type=click.IntRange(1), help="Width of the tokens."),
    click.option("--depth", type=click.IntRange(1), help="Number of blocks."),
    click.option("--heads", type=click.IntRange(1), help="Attention heads per block."),
    click.option("--mlp", "mlp_dim", type=click.IntRange(1), help="Width of the MLPs."),
    click.option("--grey", is_flag=True, help="One channel instead of three."),
)

recipe_options = option_group(
    click.option("--epochs", type=int, help="[default: by the number of images]"),
    click.option("--batch-size", type=int, help="[default: by the number of images, 8 to 128]"),
    click.option(
        "--learning-rate",
        type=float,
        help="[default: by the batch size; at 128 1e-3, or 3e-4 after --init]",
    ),
    click.option("--warmup-epochs", type=float, help="[default: 5, or a fifth of few epochs]"),
    click.option("--weight-decay", type=float, default=0.05, show_default=True),
    click.option("--gradient-clip", type=float, default=1.0, help="Largest norm of a gradient."),
    click.option("--label-smoothing", type=float, default=0.1, show_default=True),
    click.option("--stochastic-depth", type=float, default=0.0, show_default=True),
    click.option("--average", type=float, default=0.0, help="Momentum of the weights' average."),
    click.option("--balance-classes", is_flag=True, help="Weigh rare classes more."),
    click.option(
        "--trainable-blocks",
        type=int,
        help="How many of the last blocks learn; 0 is the head alone.  [default: all]",
    ),
    click.option(
        "--quantize-aware",
        type=click.Choice([str(Precision.INT8), str(Precision.INT4)]),
        help="Round as this precision does while --init learns from itself in float; "
        "other defaults, meant for few photos.",
    ),
    click.option(
        "--keep",
        type=click.Choice(["best", "last"]),
        default="best",
        show_default=True,
        help="The epoch that is kept, by its accuracy on held-out images.",
    ),
    click.option(
        "--layer-decay",
        type=float,
        help="Factor on the rate per block towards the input.  [default: 1, or 0.75 after --init]",
    ),
    click.option("--seed", type=int, default=0, show_default=True),
)

teacher_options = option_group(
    click.option("--teacher", type=PATH, help="Model to learn from beside the labels."),
    click.option(
        "--teacher-share",
        "share",
        type=click.FloatRange(0, 1),
        default=0.5,
        show_default=True,
        help="Its weight in the loss; at 1 images need no labels.",
    ),
    click.option(
        "--distill",
        type=click.Choice(["hard", "soft"]),
        default="hard",
        show_default=True,
        help="Imitate the class that it names, or all probabilities.",
    ),
    click.option(
        "--temperature",
        type=click.FloatRange(0.1, 100),
        default=3.0,
        show_default=True,
        help="Softens probabilities that are imitated.",
    ),
    click.option(
        "--imitate-blocks",
        "blocks",
        type=click.FloatRange(0),
        default=10.0,
        show_default=True,
        help="With --quantize-aware: weight of what each block makes, against the float model's.",
    ),
    click.option(
        "--distillation-token",
        is_flag=True,
        help="A second token and head learn from a hard teacher, as in DeiT.",
    ),
)

augmentation_options = option_group(
    click.option(
        "--crop",
        type=float,
        help="Least share of an image kept.  [default: 0.6; 1 with --grey or --init]",
    ),
    click.option(
        "--flip/--no-flip",
        default=None,
        help="Mirror every second image.  [default: yes; no with --grey or --init]",
    ),
    click.option("--randaugment", "operations", type=int, default=0, help="Random operations."),
    click.option("--magnitude", type=float, default=9.0, help="Strength of those, 0 to 10."),
    click.option("--shift", type=float, default=0.0, help="Largest shift, as a share."),
    click.option("--rotation", type=float, default=0.0, help="Largest rotation in degrees."),
    click.option("--zoom", type=float, default=0.0, help="Largest zoom, as a share."),
    click.option("--mixup", type=float, default=0.0, help="Alpha of mixup."),
    click.option("--cutmix", type=float, default=0.0, help="Alpha of CutMix."),
)


def read_import_options(values: dict[str, Any]) -> ImportOptions:
    """What ``import_options`` collected, in the form that importers take; empties ``values``.

    Raises:
        UsageError: A number is none, or the labels cannot be read.
    """
    from vitedge.importers import ImportOptions

    check_custom_objects(values["custom_objects"])
    mean, std = _numbers(values.pop("mean"), "--mean"), _numbers(values.pop("std"), "--std")
    beyond = [each for each in mean or () if not -1 <= each <= 1]
    if beyond:
        raise UsageError(f"--mean is of pixels in 0..1, not {beyond[0]:g}; divide by 255")
    head_activation, task = values.pop("head_activation"), values.pop("task")
    labels = values.pop("labels")
    activation, interpolation = values.pop("activation"), values.pop("interpolation")
    return ImportOptions(
        task=None if task is None else Task(task),
        head_activation=None if head_activation is None else Activation(head_activation),
        labels=None if labels is None else _read_labels(labels),
        activation=None if activation is None else Activation(activation),
        interpolation=None if interpolation is None else Interpolation(interpolation),
        mean=mean,
        std=std,
        warn=_warner(),
        **values,
    )


def _warner() -> Callable[[str], None]:
    """Prints each warning once, however often a command reads a model."""
    told: set[str] = set()

    def warn_once(words: str) -> None:
        if words not in told:
            told.add(words)
            warn(words)

    return warn_once


def check_custom_objects(texts: Iterable[str]) -> None:
    """Refuses what ``trust_options`` collected where it names no object of a module.

    Raises:
        UsageError: A text has no colon.
    """
    for text in texts:
        if ":" not in text:
            raise UsageError(f"--custom-objects takes module:name, not '{text}'")


def read_targets(texts: Iterable[str]) -> tuple[Target, ...]:
    """Targets in words, such as ``tflite-cpu``.

    Raises:
        UsageError: A text is none.
    """
    try:
        return tuple(Target.parse(text) for text in texts)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} takes numbers with commas between, not '{text}'") from error


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the labels in '{path}': {error}") from error
    return tuple(line.strip() for line in lines if line.strip())
