"""The options of ``vitedge train`` that say what model it makes, and how.

An option that is not given stays None: ``vitedge.train`` decides its value. Defaults in these texts
are those of ``TrainingRecipe``, ``Distillation`` and ``Augmentation``; a test compares them.
"""

from __future__ import annotations

import click

from vitedge.commands.grouped import option_group
from vitedge.commands.options import PATH
from vitedge.targets.precisions import Precision

size_options = option_group(
    click.option("--preset", help="tiny, small, base, ...  [default: tiny]"),
    click.option("--image-size", type=click.IntRange(1), help="Side of the input in pixels."),
    click.option("--patch-size", type=click.IntRange(1), help="Side of a patch in pixels."),
    click.option("--dim", type=click.IntRange(1), help="Width of the tokens."),
    click.option("--depth", type=click.IntRange(1), help="Number of blocks."),
    click.option("--heads", type=click.IntRange(1), help="Attention heads per block."),
    click.option("--mlp", type=click.IntRange(1), help="Width of the MLPs."),
    click.option("--grey", is_flag=True, default=None, help="One channel instead of three."),
    title="Size of a new model",
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
    click.option("--weight-decay", type=float, help="Weight decay of matrices.  [default: 0.05]"),
    click.option("--gradient-clip", type=float, help="Largest norm of a gradient.  [default: 1]"),
    click.option(
        "--label-smoothing", type=float, help="Probability for all classes.  [default: 0.1]"
    ),
    click.option(
        "--stochastic-depth",
        type=float,
        help="Probability that an image skips the last block's branches.  [default: 0]",
    ),
    click.option(
        "--average", type=float, help="Momentum of the weights' average; 0 is off.  [default: 0]"
    ),
    click.option("--balance-classes", is_flag=True, default=None, help="Weigh rare classes more."),
    click.option(
        "--trainable-blocks",
        type=int,
        help="Number of last blocks that learn; 0 is the head alone.  [default: all]",
    ),
    click.option(
        "--quantize-aware",
        type=click.Choice([str(Precision.INT8), str(Precision.INT4)]),
        help="Round as this precision does while --init learns from itself in float; "
        "other defaults, meant for few photos.",
    ),
    click.option(
        "--tokens",
        metavar="SHARE",
        help="Merge tokens of --init as convert does, and repair it; a schedule such as 4:53,8:45, "
        "too.",
    ),
    click.option(
        "--merge",
        type=click.Choice(["alike", "constant"]),
        help="The tokens that --tokens merges: alike in each picture, or the same in every picture."
        "  [default: alike]",
    ),
    click.option(
        "--width",
        type=float,
        metavar="SHARE",
        help="Remove heads and hidden channels of --init as convert does, and repair it.",
    ),
    click.option(
        "--repair",
        is_flag=True,
        default=None,
        help="--init, made lighter by --tokens, --width or --image-size, imitates itself as it "
        "was; no labels are needed. --tokens and --width imply it.",
    ),
    click.option(
        "--keep",
        type=click.Choice(["best", "last"]),
        help="The epoch that is kept, by its accuracy on held-out images.  [default: best]",
    ),
    click.option(
        "--layer-decay",
        type=float,
        help="Factor on the rate per block towards the input.  [default: 1, or 0.75 after --init]",
    ),
    click.option("--seed", type=int, help="Seed of everything random.  [default: 0]"),
    title="Training",
)

teacher_options = option_group(
    click.option("--teacher", type=PATH, help="Model to learn from beside the labels."),
    click.option(
        "--teacher-share",
        type=click.FloatRange(0, 1),
        help="Weight of the teacher in the loss; at 1 images need no labels.  [default: 0.5]",
    ),
    click.option(
        "--distill",
        type=click.Choice(["hard", "soft"]),
        help="Imitate the class that it names, or all probabilities.  [default: hard]",
    ),
    click.option(
        "--temperature",
        type=click.FloatRange(0.1, 100),
        help="Softens probabilities that are imitated.  [default: 3]",
    ),
    click.option(
        "--imitate-blocks",
        type=click.FloatRange(0),
        help="With --quantize-aware and --repair: weight of what each block makes, against the "
        "model's as it was.  [default: 10, or 0 with --image-size]",
    ),
    click.option(
        "--distillation-token",
        is_flag=True,
        default=None,
        help="A second token and head learn from a hard teacher, as in DeiT.",
    ),
    title="Learning from a teacher",
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
    click.option("--randaugment", type=int, help="Random operations.  [default: 0]"),
    click.option(
        "--magnitude", type=float, help="Strength of the random operations, 0 to 10.  [default: 9]"
    ),
    click.option("--shift", type=float, help="Largest shift, as a share.  [default: 0]"),
    click.option("--rotation", type=float, help="Largest rotation in degrees.  [default: 0]"),
    click.option("--zoom", type=float, help="Largest zoom, as a share.  [default: 0]"),
    click.option("--mixup", type=float, help="Alpha of mixup; 0 is off.  [default: 0]"),
    click.option("--cutmix", type=float, help="Alpha of CutMix; 0 is off.  [default: 0]"),
    title="Random changes of the images",
)
