"""``vitedge train``: which images, which model to start from, which recipe; then the training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from vitedge.data import ImageSet
from vitedge.errors import DataError, UsageError
from vitedge.folder_lock import only_writer
from vitedge.importers import read_model
from vitedge.network.network import Network
from vitedge.pipeline import write_keras
from vitedge.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from vitedge.presets import initialize, preset
from vitedge.progress import Progress, silent
from vitedge.spec import Pooling, Precision
from vitedge.staging import refuse_existing
from vitedge.train import (
    Epoch,
    Products,
    Recipe,
    Step,
    Strategy,
    Trained,
    adapt,
    choose,
    open_replicas,
    start_tensorflow,
    train,
)
from vitedge.train.fine_tune import answered, in_classes_of
from vitedge.train.mixed import AUTO, OFF
from vitedge.train.record import STATE_FILE
from vitedge.train.splits import open_training_images
from vitedge.train.two_tokens import with_distillation_token


@dataclass(frozen=True)
class Size:
    """A preset, and where the model differs from it; None means as the preset.

    Attributes:
        preset: Name of a published size.
        image_size: Side of the input in pixels.
        patch_size: Side of a patch in pixels.
        dim: Width of the residual stream.
        depth: Number of blocks.
        heads: Attention heads per block.
        mlp_dim: Width of the hidden layer of each MLP.
        channels: 3 for RGB, 1 for grey.
    """

    preset: str = "tiny"
    image_size: int | None = None
    patch_size: int | None = None
    dim: int | None = None
    depth: int | None = None
    heads: int | None = None
    mlp_dim: int | None = None
    channels: int = 3


@dataclass(frozen=True)
class TrainRequest:
    """What a person asked the training for.

    Attributes:
        data: A folder, file or ``digits``; see ``open_training_images``.
        output: The ``.keras`` file to write.
        size: The fresh model; only its image size counts when there is an ``init``.
        init: A model to start from, or None for fresh weights.
        teacher: A model to learn from beside the labels, or None.
        distillation_token: The model has, or gets, a second token that learns from the teacher.
        recipe: How to train; what products compute in follows from ``mixed_precision``.
        mixed_precision: ``auto``, ``off``, ``bfloat16`` or ``float16``; see ``choose``.
        strategy: How several devices or machines share the work; None is this process alone.
        held_out_share: Share of each class held out, where the data has no split itself.
        resume: Continue the run that was interrupted.
        force: An existing output may be overwritten.
    """

    data: Path
    output: Path
    size: Size = field(default_factory=Size)
    init: Path | None = None
    teacher: Path | None = None
    distillation_token: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    mixed_precision: str = AUTO
    strategy: Strategy | None = None
    held_out_share: float = 0.1
    resume: bool = False
    force: bool = False

    @property
    def run_folder(self) -> Path:
        """Where the run is recorded, so that it can be resumed: beside the output."""
        return self.output.with_suffix(".run")


def train_model(
    request: TrainRequest,
    *,
    progress: Progress = silent,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    say: Callable[[str], None] = lambda words: None,
) -> Trained:
    """Trains a model and writes it.

    Args:
        request: What to do.
        progress: Told how far things are.
        on_epoch: Called after each epoch.
        say: Told what was chosen for this machine.

    Raises:
        UsageError: The output exists, or the options contradict each other.
        DataError: The images cannot be used.
        ModelError: ``init`` or the teacher cannot be read.
        VitedgeError: The loss is no longer a number.
    """
    if request.output.suffix != ".keras":
        raise UsageError(f"'{request.output}' must end in .keras")
    # A resumed run may write its own output again; the record knows whose run it is.
    refuse_existing([request.output], force=request.force or request.resume)
    _refuse_to_lose_a_run(request)
    _check_size(request)
    _check_teaching(request)
    images, held_out = open_training_images(
        request.data,
        share=request.held_out_share,
        seed=request.recipe.seed,
        unlabelled=_labels_are_idle(request),
    )
    # What is wrong in a model's size is found before TensorFlow takes its seconds; reading a model
    # may need it, and machines have to be connected before it is used at all.
    class_names = images.class_names or _numbered(images)
    if not _labels_are_idle(request):
        _check_classes(request, class_names)
    fresh = _fresh(request, class_names) if class_names and request.init is None else None
    progress("starting TensorFlow", 0, 1)
    replicas = open_replicas(request.strategy, say=say)
    start_tensorflow()
    init = None if request.init is None else read_model(request.init).network
    teacher = _teacher(request, init)
    images, held_out = (
        _labelled(request, each, init, teacher, progress) for each in (images, held_out)
    )
    class_names = images.class_names or _numbered(images)
    if init is not None:
        network = _adapted(request, init, class_names)
        teacher = network if teacher is init else teacher
    else:
        network = fresh or _fresh(request, class_names)
    held_out_accuracy = None

    def on_step(step: Step) -> None:
        progress(progress_line(step, held_out_accuracy), step.done, step.of)

    def after_epoch(epoch: Epoch) -> None:
        nonlocal held_out_accuracy
        held_out_accuracy = epoch.held_out_accuracy
        on_epoch(epoch)

    wish = request.mixed_precision
    if wish == AUTO and request.recipe.quantize_aware is Precision.INT8:
        wish = OFF  # bfloat16 has as many bits, and would add as much noise as the integers
    chosen = choose(wish)
    if chosen.products != Products.FLOAT32:
        say(f"matrix products in {chosen.products}, all else in float32: {chosen.reason}")
    # Several workers may be one machine's; the chief alone writes.
    alone = only_writer(request.run_folder) if replicas.is_chief else nullcontext()
    with alone:
        trained = train(
            network,
            images,
            replace(request.recipe, products=chosen.products),
            held_out=held_out,
            teacher=teacher,
            folder=request.run_folder,
            resume=request.resume,
            on_step=on_step,
            on_epoch=after_epoch,
            progress=progress,
            replicas=replicas,
        )
        if replicas.is_chief:
            write_keras(trained.network, request.output)
    return trained


def progress_line(step: Step, held_out_accuracy: float | None) -> str:
    """Where a run stands, such as ``loss 0.412, accuracy 88.3 %, 950 images/s, 3:20 left``."""
    parts = [f"loss {step.loss:.3f}", f"accuracy {step.accuracy:.1%}"]
    if held_out_accuracy is not None:
        parts.append(f"held out {held_out_accuracy:.1%}")
    minutes, seconds = divmod(round(step.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    speed = step.images_per_second
    digits = f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"
    return ", ".join([*parts, f"{digits} images/s", f"{left} left"])


def _numbered(images: ImageSet) -> tuple[str, ...]:
    """Names for classes that have only indices."""
    labels = [sample.label for sample in images.samples if sample.label is not None]
    return tuple(str(index) for index in range(max(labels, default=-1) + 1))


def _check_classes(request: TrainRequest, class_names: tuple[str, ...]) -> None:
    """One class teaches nothing."""
    if len(class_names) < 2:
        found = f"only the class '{class_names[0]}'" if class_names else "no classes"
        raise DataError(
            f"'{request.data}' has {found}: there is nothing to tell apart; a class is a folder, "
            "or a label in labels.csv"
        )


def _refuse_to_lose_a_run(request: TrainRequest) -> None:
    """Hours of training are not overwritten unasked."""
    if (request.run_folder / STATE_FILE).exists() and not (request.force or request.resume):
        raise UsageError(
            f"'{request.run_folder}' holds a run that was started before: --resume continues it, "
            "--force starts anew"
        )


def _check_size(request: TrainRequest) -> None:
    """A model that exists has its size; only that of its images can change."""
    if request.init is None:
        return
    size = replace(request.size, image_size=None)
    for each in fields(Size):
        if getattr(size, each.name) != each.default:
            raise UsageError(
                f"'{request.init}' has its own size: only --image-size goes with --init, not "
                f"{each.name.replace('_', ' ')} {getattr(size, each.name)}"
            )


def _check_teaching(request: TrainRequest) -> None:
    recipe = request.recipe
    if recipe.quantize_aware is not None and request.init is None:
        raise UsageError(
            f"--quantize-aware {recipe.quantize_aware} repairs a trained model: name it with --init"
        )
    if request.distillation_token and not (request.teacher and recipe.distillation.hard):
        raise UsageError("a distillation token learns from the classes that a --teacher names")


def _labels_are_idle(request: TrainRequest) -> bool:
    """Whether a teacher alone is listened to; then it may label the images, too."""
    taught = request.teacher is not None or request.recipe.quantize_aware is not None
    return taught and request.recipe.distillation.share == 1


def _teacher(request: TrainRequest, init: Network | None) -> Network | None:
    """The model to learn from: for rounded weights, where none is named, itself in float."""
    if request.teacher is not None:
        return read_model(request.teacher).network
    listens = request.recipe.distillation.share > 0
    return init if listens and request.recipe.quantize_aware is not None else None


def _labelled(
    request: TrainRequest,
    images: ImageSet,
    init: Network | None,
    teacher: Network | None,
    progress: Progress,
) -> ImageSet:
    """The images with the labels that the model will have."""
    if init is not None and request.recipe.quantize_aware is not None:
        images = in_classes_of(init, images)
    if teacher is None or all(sample.label is not None for sample in images.samples):
        return images
    return answered(images, teacher, progress)


def _adapted(request: TrainRequest, init: Network, class_names: tuple[str, ...]) -> Network:
    """The model to start from, with one logit for each class of the data; repair keeps its own."""
    if request.distillation_token:
        init = with_distillation_token(init)
    side = request.size.image_size
    wanted = None if side is None else (side, side)
    names = class_names if request.recipe.quantize_aware is None else ()
    return adapt(init, names, image_size=wanted, seed=request.recipe.seed)


def _fresh(request: TrainRequest, class_names: tuple[str, ...]) -> Network:
    """An untrained model with one logit for each class of the data."""
    size, seed = request.size, request.recipe.seed
    config = preset(
        size.preset,
        classes=len(class_names),
        image_size=size.image_size,
        patch_size=size.patch_size,
        channels=size.channels,
        dim=size.dim,
        depth=size.depth,
        heads=size.heads,
        mlp_dim=size.mlp_dim,
    )
    if request.distillation_token and config.pooling is not Pooling.DISTILLED:
        config = replace(config, prefix_tokens=2, pooling=Pooling.DISTILLED)
    grey = size.channels == 1
    preprocessing = Preprocessing(
        size=config.image_size,
        channels=size.channels,
        mean=(0.5,) if grey else IMAGENET_MEAN,
        std=(0.5,) if grey else IMAGENET_STD,
    )
    return initialize(config, preprocessing, class_names, seed=seed)
