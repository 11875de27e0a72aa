"""``vitedge train``: which images, which model to start from, which recipe; then the training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from vitedge.artifacts.metadata import sha256_of
from vitedge.errors import DataError, UsageError
from vitedge.files.folder_lock import only_writer
from vitedge.files.staging import refuse_existing
from vitedge.images.image_sets import ImageSet
from vitedge.images.readable_images import warn_of_images
from vitedge.images.seen_images import record_seen
from vitedge.importers import ImportOptions, read_model
from vitedge.network.network import Network
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress, silent
from vitedge.train import (
    Epoch,
    Products,
    Strategy,
    Trained,
    TrainingRecipe,
    adapt,
    choose,
    demand_cluster,
    open_replicas,
    start_tensorflow,
)
from vitedge.train.fine_tune import answered, in_classes_of
from vitedge.train.folds import Folds, Lesson, measured_in_folds
from vitedge.train.lighter import lighter
from vitedge.train.mixed import AUTO, OFF
from vitedge.train.record import STATE_FILE, run_folder_of
from vitedge.train.size import Size, fresh_network
from vitedge.train.splits import Parts, open_parts
from vitedge.train.told import what_is_missing, what_was_read
from vitedge.train.two_tokens import with_distillation_token
from vitedge.train.usual import in_words, settled


@dataclass(frozen=True)
class TrainRequest:
    """A person's request for a training.

    Attributes:
        data: A folder, file or ``digits``, or images; see ``open_parts``.
        output: The ``.keras`` file to write.
        size: The fresh model; only its image size counts when there is an ``init``.
        init: A model to start from, or None for fresh weights.
        importing: The options for reading it and the teacher.
        teacher: A model to learn from beside the labels, or None.
        distillation_token: The model has, or gets, a second token that learns from the teacher.
        tokens: The way in which the model that is repaired merges tokens; None merges none.
        width: Share of the multiplications that is left when heads and hidden channels of the model
            that is repaired are removed, before tokens are merged; None removes none.
        recipe: The recipe of the training; the dtype of products follows from ``mixed_precision``.
        named: Names of the recipe's values that somebody chose; all others are set to what is usual
            for so many images (see ``vitedge.train.usual``). None: the recipe is taken as it is.
        mixed_precision: ``auto``, ``off``, ``bfloat16`` or ``float16``; see ``choose``.
        strategy: The way in which several devices or machines share the work; None is this process
            alone.
        held_out_share: Share of each class held out, where the data has no split itself.
        folds: Measure in so many folds, each image once, and let the model learn from all of them.
        strict: An image that cannot be read is an error, not left out.
        resume: Continue the run that was interrupted.
        force: An existing output may be overwritten.
    """

    data: Path | ImageSet | Parts
    output: Path
    size: Size = field(default_factory=Size)
    init: Path | None = None
    importing: ImportOptions = field(default_factory=ImportOptions)
    teacher: Path | None = None
    distillation_token: bool = False
    tokens: TokenOptions | None = None
    width: float | None = None
    recipe: TrainingRecipe = field(default_factory=TrainingRecipe)
    named: frozenset[str] | None = None
    mixed_precision: str = AUTO
    strategy: Strategy | None = None
    held_out_share: float = 0.1
    folds: int | None = None
    strict: bool = False
    resume: bool = False
    force: bool = False

    @property
    def run_folder(self) -> Path:
        """The folder that records the run, so that it can be resumed: beside the output."""
        return run_folder_of(self.output)


@dataclass(frozen=True)
class Outcome:
    """A training run that ended.

    Attributes:
        trained: The model that was written, and how it came about.
        recipe: The recipe of its training.
        held_out: The number of images that ``trained.held_out_accuracy`` was measured on.
        folds: The results of the folds, if there were any.
        divisible: Images that folds could measure on; 0 where the data has a part for that.
    """

    trained: Trained
    recipe: TrainingRecipe
    held_out: int
    folds: Folds | None = None
    divisible: int = 0


def train_model(
    request: TrainRequest,
    *,
    progress: Progress = silent,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    say: Callable[[str], None] = lambda words: None,
    warn: Callable[[str], None] = lambda words: None,
) -> Outcome:
    """Trains a model and writes it.

    Args:
        request: The request.
        progress: Told how far things are.
        on_epoch: Called after each epoch.
        say: Told what was read, and what was chosen for these images and this machine.
        warn: Told what was left out, and what cannot be learnt or measured.

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
    demand_cluster(request.strategy)
    asked, request = request, _settled(request, 1)
    _check_teaching(request)
    parts = open_parts(
        request.data,
        share=request.held_out_share,
        seed=request.recipe.seed,
        unlabelled=_labels_are_idle(request),
        strict=request.strict,
        progress=progress,
    )
    class_names = parts.training.class_names or _numbered(parts.training)
    if not _labels_are_idle(request):
        _check_classes(request, class_names)
    request = _settled(asked, len(_learnt_from(request, parts).samples))
    # What is wrong in a model's size is found before TensorFlow takes its seconds; reading a model
    # may need it, and machines have to be connected before it is used at all.
    fresh = None if request.init or not class_names else _fresh(request, class_names)
    _tell(request, parts, class_names, say=say, warn=warn)
    learnt, measured = _learnt_from(request, parts), None if request.folds else parts.held_out
    progress("starting TensorFlow", 0, 1)
    replicas = open_replicas(request.strategy, say=say)
    start_tensorflow()
    progress("reading the model to start from", 0, 1)
    init = None if request.init is None else read_model(request.init, request.importing).network
    teacher = _teacher(request, init)
    learnt = _labelled(request, learnt, init, teacher, progress)
    if measured is not None:
        measured = _labelled(request, measured, init, teacher, progress)
    class_names = learnt.class_names or _numbered(learnt)
    original = None
    if init is not None and request.recipe.repair:
        original, network = init, _lighter(request, init, learnt, say, progress)
    elif init is not None:
        network = _adapted(request, init, class_names)
        teacher = network if teacher is init else teacher
    else:
        network = fresh or _fresh(request, class_names)
    recipe = replace(request.recipe, products=_products(request, say))
    lesson = Lesson(network, teacher, recipe, replicas, request.resume, request.named, original)
    trained, folds = _learnt_and_written(request, lesson, learnt, measured, progress, on_epoch)
    held_out, whole = (0 if each is None else len(each.samples) for each in (measured, parts.whole))
    return Outcome(trained, recipe, held_out, folds, whole)


def _learnt_and_written(
    request: TrainRequest,
    lesson: Lesson,
    learnt: ImageSet,
    measured: ImageSet | None,
    progress: Progress,
    on_epoch: Callable[[Epoch], None],
) -> tuple[Trained, Folds | None]:
    """The model that was written, and what its folds came to."""
    chief = lesson.replicas.is_chief
    # Several workers may be one machine's; the chief alone writes.
    alone = only_writer(request.run_folder) if chief else nullcontext()
    with alone:
        folds = None
        if request.folds is not None:
            folds = measured_in_folds(lesson, learnt, request.folds, request.run_folder, progress)
            is_begun = request.resume and (request.run_folder / STATE_FILE).exists()
            lesson = replace(lesson, resume=is_begun)
        trained = lesson.learn(learnt, measured, request.run_folder, progress, on_epoch)
        if chief:
            progress(f"writing {request.output.name}", 0, 1)
            write_keras(trained.network, request.output)
            progress("recording what the model has seen", 0, 1)
            chosen_by = measured if lesson.recipe.keep_best else None
            record_seen(request.run_folder, sha256_of(request.output), learnt, chosen_by)
    return trained, folds


def _lighter(
    request: TrainRequest,
    init: Network,
    images: ImageSet,
    say: Callable[[str], None],
    progress: Progress,
) -> Network:
    return lighter(
        init,
        images,
        image_size=_image_size(request),
        width=request.width,
        tokens=request.tokens,
        say=say,
        progress=progress,
    )


def _image_size(request: TrainRequest) -> tuple[int, int] | None:
    side = request.size.image_size
    return None if side is None else (side, side)


def _fresh(request: TrainRequest, class_names: tuple[str, ...]) -> Network:
    return fresh_network(
        request.size,
        class_names,
        distillation_token=request.distillation_token,
        seed=request.recipe.seed,
    )


def _settled(request: TrainRequest, images: int) -> TrainRequest:
    """The request with the recipe for so many images."""
    if request.named is None:
        return request
    recipe = settled(
        request.recipe,
        request.named,
        images,
        fine_tuning=request.init is not None,
        grey=request.size.channels == 1,
        smaller_images=request.recipe.repair and request.size.image_size is not None,
    )
    return replace(request, recipe=recipe)


def _learnt_from(request: TrainRequest, parts: Parts) -> ImageSet:
    """The images that the model that is written learns from: all, where folds have measured."""
    if request.folds is None:
        return parts.training
    if parts.whole is None:
        raise UsageError(
            f"'{request.data}' has a part to measure on already: leave out --folds, or give its "
            "training part alone"
        )
    return parts.whole


def _tell(
    request: TrainRequest,
    parts: Parts,
    class_names: tuple[str, ...],
    *,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    say(what_was_read(parts, class_names, str(request.data)))
    for images in (parts.whole,) if parts.whole else (parts.training, parts.held_out):
        warn_of_images(images, warn)
    for words in what_is_missing(parts, class_names):
        warn(words)
    if request.named is not None:
        count = len(_learnt_from(request, parts).samples)
        say(in_words(request.recipe, request.named, count))


def _products(request: TrainRequest, say: Callable[[str], None]) -> Products:
    wish = request.mixed_precision
    if wish == AUTO and request.recipe.quantize_aware is Precision.INT8:
        wish = OFF  # bfloat16 has as many bits, and would add as much noise as the integers
    chosen = choose(wish)
    if chosen.products != Products.FLOAT32:
        say(f"matrix products in {chosen.products}, all else in float32: {chosen.reason}")
    return chosen.products


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
    found = any(request.run_folder.glob(f"**/{STATE_FILE}"))
    if request.folds is not None and request.resume and not found:
        raise UsageError(f"there is no run to resume in '{request.run_folder}'")
    if found and not (request.force or request.resume):
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
    if request.folds is not None and request.folds < 2:
        raise UsageError(f"there are no {request.folds} folds: give 2 or more")
    if request.folds is not None and request.strategy is not None:
        raise UsageError("folds are trained one after another on one device: leave out --strategy")
    if recipe.repairs and request.init is None:
        asked = "--repair, --tokens and --width make a trained model lighter and repair it"
        if recipe.quantize_aware is not None:
            asked = f"--quantize-aware {recipe.quantize_aware} repairs a trained model"
        raise UsageError(f"{asked}: name it with --init")
    if recipe.repair and request.distillation_token:
        raise UsageError("a repaired model keeps its tokens: leave out --distillation-token")
    lightens = (request.tokens, request.width, request.size.image_size)
    if recipe.repair and all(each is None for each in lightens):
        raise UsageError(
            "--repair makes up for what a lighter model loses: give --tokens, --width or "
            "--image-size, too"
        )
    if request.distillation_token and not (request.teacher and recipe.distillation.hard):
        raise UsageError("a distillation token learns from the classes that a --teacher names")


def _labels_are_idle(request: TrainRequest) -> bool:
    """Whether a teacher alone is listened to; then it may label the images, too."""
    taught = request.teacher is not None or request.recipe.repairs
    return taught and request.recipe.distillation.share == 1


def _teacher(request: TrainRequest, init: Network | None) -> Network | None:
    """The model to learn from: for rounded weights, where none is named, itself in float."""
    if request.teacher is not None:
        return read_model(request.teacher, request.importing).network
    listens = request.recipe.distillation.share > 0
    return init if listens and request.recipe.repairs else None


def _labelled(
    request: TrainRequest,
    images: ImageSet,
    init: Network | None,
    teacher: Network | None,
    progress: Progress,
) -> ImageSet:
    """The images with the labels that the model will have."""
    if init is not None and request.recipe.repairs:
        images = in_classes_of(init, images)
    if teacher is None or all(sample.label is not None for sample in images.samples):
        return images
    return answered(images, teacher, progress)


def _adapted(request: TrainRequest, init: Network, class_names: tuple[str, ...]) -> Network:
    """The model to start from, with one logit for each class of the data; repair keeps its own."""
    if request.distillation_token:
        init = with_distillation_token(init)
    names = () if request.recipe.repairs else class_names
    return adapt(init, names, image_size=_image_size(request), seed=request.recipe.seed)
