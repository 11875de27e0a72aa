"""``vitedge.train``: images become a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, cast

from vitedge.api.listening import Tell, nobody, python_warning
from vitedge.api.models import Model, opened_or_none
from vitedge.api.options import one_of, refuse_unknown
from vitedge.api.photos import photos_of
from vitedge.api.tokens import MERGES, read_tokens, read_width
from vitedge.bench.spread import wilson_interval
from vitedge.errors import UsageError
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.in_memory import Images
from vitedge.importers import ImportOptions
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.pipeline.token_search import TokenSearch
from vitedge.report.shown import Block, Shown
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress, silent
from vitedge.train import Augmentation, Distillation, Epoch, Strategy, TrainingRecipe
from vitedge.train import request as training
from vitedge.train.request import Outcome, TrainRequest
from vitedge.train.size import Size
from vitedge.train.splits import Parts

if TYPE_CHECKING:
    from typing import Unpack

HELD_OUT = 0.1
"""Share of each class to measure on, where the images have no part for that."""

_FIELDS = {
    "mlp": "mlp_dim",
    "keep": "keep_best",
    "distill": "hard",
    "teacher_share": "share",
    "imitate_blocks": "blocks",
    "randaugment": "operations",
}
"""Options that are called otherwise than the fields that they set."""

# Below this many, the interval is over ten points wide.
_FEW, _FOLDS = 100, 5


class TrainOptions(TypedDict, total=False):
    """The size of the model, and how it is trained; each is an option of ``vitedge train``.

    What is left out, or None, follows from the number of images and from the model to start from,
    or is the default of ``TrainingRecipe``, ``Distillation`` and ``Augmentation``.

    Attributes:
        preset: Size of a fresh model: ``tiny``, ``small``, ``base`` and so on.
        image_size: Side of the input in pixels.
        patch_size: Side of a patch in pixels.
        dim: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads per block.
        mlp: Width of the MLPs.
        grey: One channel instead of three.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: The rate at the end of the warm-up.
        warmup_epochs: Epochs over which the learning rate rises from 0.
        weight_decay: Decoupled, of weight matrices only.
        gradient_clip: Largest norm of a gradient.
        label_smoothing: Probability spread over all classes.
        stochastic_depth: Probability that an image skips the last block's branches.
        average: Momentum of the weights' average; 0 keeps the last weights.
        balance_classes: Weigh rare classes more.
        trainable_blocks: The number of last blocks that learn; 0 is the head alone.
        quantize_aware: ``int8`` or ``int4``: round as this precision does while the model learns.
        tokens: Merge tokens of ``init`` until this share of the multiplications is left, such as
            0.7, or by a schedule such as ``4:53,8:45``, and repair it.
        merge: ``alike`` or ``constant``: tokens that are alike in each picture, or the same tokens
            in every picture.
        width: Remove heads and hidden channels of ``init`` until this share of the multiplications
            is left, and repair it.
        repair: Let ``init``, made lighter by ``tokens``, ``width`` or ``image_size``, imitate
            itself as it was, without labels; ``tokens`` and ``width`` imply it.
        keep: ``best`` or ``last``: the epoch that is kept.
        layer_decay: Factor on the learning rate per block towards the input.
        seed: Fixes all that is random.
        teacher_share: Weight of the teacher in the loss, 0..1.
        distill: ``hard`` or ``soft``: imitate the teacher's class, or its probabilities.
        temperature: Softens probabilities that are imitated.
        imitate_blocks: The weight of each block's outputs in the loss of a repair: 10, or 0 with
            ``image_size``.
        distillation_token: A second token and head learn from a hard teacher, as in DeiT.
        crop: Least share of an image that a random crop keeps.
        flip: Mirror every second image.
        randaugment: Random operations on each image.
        magnitude: Their strength, 0..10.
        shift: Largest shift, as a share of the side.
        rotation: Largest rotation in degrees.
        zoom: Largest change of size, as a share.
        mixup: Alpha of mixup.
        cutmix: Alpha of CutMix.
    """

    preset: str | None
    image_size: int | None
    patch_size: int | None
    dim: int | None
    depth: int | None
    heads: int | None
    mlp: int | None
    grey: bool
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    warmup_epochs: float | None
    weight_decay: float | None
    gradient_clip: float | None
    label_smoothing: float | None
    stochastic_depth: float | None
    average: float | None
    balance_classes: bool
    trainable_blocks: int | None
    quantize_aware: str | None
    tokens: float | str | None
    merge: str | None
    width: float | None
    repair: bool
    keep: str | None
    layer_decay: float | None
    seed: int | None
    teacher_share: float | None
    distill: str | None
    temperature: float | None
    imitate_blocks: float | None
    distillation_token: bool
    crop: float | None
    flip: bool | None
    randaugment: int | None
    magnitude: float | None
    shift: float | None
    rotation: float | None
    zoom: float | None
    mixup: float | None
    cutmix: float | None


@dataclass(frozen=True, repr=False)
class TrainedModel(Shown):
    """A model that ``train`` made.

    Attributes:
        path: The Keras model that was written; None for a worker that writes none.
        accuracy: Share of held-out images named right, 0..1; None where none was held out.
        held_out: The number of those images.
        history: Every epoch.
        outcome: All that is known of the run.
    """

    path: Path | None
    accuracy: float | None
    held_out: int
    history: tuple[Epoch, ...]
    outcome: Outcome

    def blocks(self, width: int | None) -> Sequence[Block]:
        """The model's accuracy with its uncertainty, and the files that were written."""
        return [*_how_well(self.outcome), *([f"wrote {self.path}"] if self.path else [])]


def train(
    data: Images,
    output: str | os.PathLike[str] = "model.keras",
    *,
    validation: Images | None = None,
    init: Model | None = None,
    teacher: Model | None = None,
    held_out: float = HELD_OUT,
    folds: int | None = None,
    mixed_precision: str = "auto",
    strategy: str | None = None,
    resume: bool = False,
    strict: bool = False,
    force: bool = False,
    progress: Progress = silent,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    say: Tell = nobody,
    warn: Tell = python_warning,
    **options: Unpack[TrainOptions],
) -> TrainedModel:
    """Trains a vision transformer on your images, from fresh weights or from a model's.

    The run is recorded beside the output, in ``model.run/``, so that ``resume`` continues it::

        trained = vitedge.train((images, labels), "digits.keras", preset="tiny", epochs=20)
        trained.accuracy

    Args:
        data: Labelled images: where ``--data`` may lie, or uint8 pixels in memory.
        output: The ``.keras`` file to write.
        validation: Labelled images to measure on. None means the part that ``data`` has for that,
            else a share of each class.
        init: Model to start from: a path, or a Keras model in memory. None means fresh weights.
        teacher: Model to learn from beside the labels.
        held_out: Share of each class to measure on, where ``data`` has no part for that.
        folds: Measure on every image, in so many folds.
        mixed_precision: ``auto``, ``off``, ``bfloat16`` or ``float16``.
        strategy: ``mirrored`` or ``multiworker``: divide each batch among devices or machines.
        resume: Continue the run that was interrupted.
        strict: An image that cannot be read is an error, not left out.
        force: Overwrite what exists.
        progress: Told how far things are.
        on_epoch: Called after each epoch.
        say: Told what was read, and what was chosen for these images and this machine.
        warn: Told what is odd; by default Python warns.
        **options: See ``TrainOptions``.

    Raises:
        UsageError: The output exists, or options contradict each other.
        DataError: The images cannot be used.
        ModelError: ``init`` or the teacher cannot be read.
        VitedgeError: The loss is no longer a number.
    """
    with opened_or_none(init) as start, opened_or_none(teacher) as master:
        request = _request(
            TrainRequest(
                data=_images(data, validation),
                output=Path(output),
                init=None if start is None else start.path,
                teacher=None if master is None else master.path,
                importing=next(
                    (each.importing for each in (start, master) if each and each.in_memory),
                    ImportOptions(),
                ),
                mixed_precision=mixed_precision,
                strategy=None if strategy is None else one_of(Strategy, strategy, "--strategy"),
                held_out_share=held_out,
                folds=folds,
                strict=strict,
                resume=resume,
                force=force,
            ),
            options,
        )
        outcome = training.train_model(
            request, progress=progress, on_epoch=on_epoch, say=say, warn=warn
        )
    trained = outcome.trained
    return TrainedModel(
        path=request.output if trained.worker == 0 else None,
        accuracy=trained.held_out_accuracy,
        held_out=outcome.held_out,
        history=trained.history,
        outcome=outcome,
    )


def _images(data: Images, validation: Images | None) -> Path | ImageSet | Parts:
    photos, measured = photos_of(data), photos_of(validation)
    assert photos is not None  # there are data
    if measured is None:
        return photos
    learnt = open_images(photos)
    return Parts(learnt, open_images(measured, learnt.class_names))


def _request(request: TrainRequest, options: TrainOptions) -> TrainRequest:
    """The request with the options in the form that the training takes."""
    refuse_unknown(options, TrainOptions)
    given = {
        _FIELDS.get(name, name): value
        for name, value in cast(Mapping[str, Any], options).items()
        if value is not None
    }
    for field, (name, wanted, other) in {
        "hard": ("--distill", "hard", "soft"),
        "keep_best": ("--keep", "best", "last"),
    }.items():
        if field in given:
            if given[field] not in (wanted, other):
                raise UsageError(f"{name} is {wanted} or {other}, not '{given[field]}'")
            given[field] = given[field] == wanted
    lighter = _lighter(given)
    if "quantize_aware" in given:
        given["quantize_aware"] = one_of(Precision, given["quantize_aware"], "--quantize-aware")

    def chosen(kind: type[Any]) -> dict[str, Any]:
        names = {each.name for each in fields(kind)}
        return {name: value for name, value in given.items() if name in names}

    recipe = TrainingRecipe(
        # Fits whatever number of epochs, until it is chosen.
        **({"warmup_epochs": 0.0} | chosen(TrainingRecipe)),
        distillation=Distillation(**chosen(Distillation)),
        augmentation=Augmentation(**chosen(Augmentation)),
    )
    return replace(
        request,
        size=Size(**chosen(Size), channels=1 if given.get("grey") else 3),
        distillation_token=given.get("distillation_token", False),
        tokens=lighter.tokens,
        width=lighter.width,
        recipe=recipe,
        named=frozenset(given),
    )


class _Lighter(NamedTuple):
    """The ways to make a model lighter."""

    tokens: TokenOptions | None
    width: float | None


def _lighter(given: dict[str, Any]) -> _Lighter:
    """The ways that options ask for; they are taken out of the options, which then say repair."""
    tokens, merge, width = (given.pop(name, None) for name in ("tokens", "merge", "width"))
    if merge is not None and tokens is None:
        raise UsageError("--merge says how --tokens merges; give --tokens as well")
    if merge not in (None, *MERGES):
        raise UsageError(f"--merge is {' or '.join(MERGES)}, not '{merge}'")
    merged = None
    if tokens is not None:
        merged = read_tokens(tokens, constant=merge == "constant", minutes=None)
    if isinstance(merged, TokenSearch):
        raise UsageError("training takes the tokens as they are given: --tokens SHARE, not auto")
    if tokens is not None or width is not None:
        given["repair"] = True
    return _Lighter(merged, read_width(width))


def _how_well(outcome: Outcome) -> Iterator[str]:
    """Yields the measurements, the number of images, and their uncertainty."""
    trained, n = outcome.trained, outcome.held_out
    if outcome.folds is not None:
        right, n, count = outcome.folds.right, outcome.folds.images, outcome.folds.count
        yield f"{_share(right, n, 'images')}, each by one of {count} models that had not seen it"
        yield (
            f"the written model has learnt from all {n} and should be as accurate; only other "
            "images can prove it"
        )
        return
    if trained.held_out_accuracy is None:
        return
    yield _share(round(trained.held_out_accuracy * n), n, "held-out images")
    epochs = len(trained.history)
    if outcome.recipe.keep_best and epochs > 1:
        yield (
            f"this is the best of {epochs} epochs, chosen on the same images, so it is too high: "
            "measure on other images (vitedge bench --data), or train with --keep last"
        )
    if n < _FEW and outcome.divisible:
        yield (
            f"{n} images say little: --folds {_FOLDS} measures on all {outcome.divisible}, in "
            f"{_FOLDS + 1} times the time"
        )


def _share(right: int, n: int, what: str) -> str:
    low, high = wilson_interval(right, n)
    return f"{right / n:.1%} of {n:,} {what} right (95 % interval: {low:.0f} to {high:.0f} %)"
