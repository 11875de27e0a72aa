"""``vitedge train``: which images, which model to start from, which recipe; then the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vitedge.errors import UsageError
from vitedge.importers import read_model
from vitedge.pipeline import write_keras
from vitedge.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from vitedge.presets import initialize, preset
from vitedge.progress import Progress, silent
from vitedge.staging import refuse_existing
from vitedge.train import Epoch, Recipe, Step, Trained, adapt, train
from vitedge.train.splits import open_training_images
from vitedge.vit import ViT


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
        recipe: How to train.
        held_out_share: Share of each class held out, where the data has no split itself.
        resume: Continue the run that was interrupted.
        force: An existing output may be overwritten.
    """

    data: Path
    output: Path
    size: Size = field(default_factory=Size)
    init: Path | None = None
    teacher: Path | None = None
    recipe: Recipe = field(default_factory=Recipe)
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
) -> Trained:
    """Trains a model and writes it.

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
    images, held_out = open_training_images(
        request.data, share=request.held_out_share, seed=request.recipe.seed
    )
    vit = _start(request, images.class_names)
    teacher = None if request.teacher is None else read_model(request.teacher).vit
    accuracy = ""

    def on_step(step: Step) -> None:
        progress(f"loss {step.loss:.3f}{accuracy}", step.done, step.of)

    def after_epoch(epoch: Epoch) -> None:
        nonlocal accuracy
        if epoch.held_out_accuracy is not None:
            accuracy = f", held out {epoch.held_out_accuracy:.1%}"
        on_epoch(epoch)

    progress("starting TensorFlow", 0, 1)
    trained = train(
        vit,
        images,
        request.recipe,
        held_out=held_out,
        teacher=teacher,
        folder=request.run_folder,
        resume=request.resume,
        on_step=on_step,
        on_epoch=after_epoch,
        progress=progress,
    )
    write_keras(trained.vit, request.output)
    return trained


def _start(request: TrainRequest, class_names: tuple[str, ...]) -> ViT:
    """The model before training, with one logit for each class of the data."""
    size, seed = request.size, request.recipe.seed
    if request.init is not None:
        side = size.image_size
        wanted = None if side is None else (side, side)
        return adapt(read_model(request.init).vit, class_names, image_size=wanted, seed=seed)
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
    grey = size.channels == 1
    preprocessing = Preprocessing(
        size=config.image_size,
        channels=size.channels,
        mean=(0.5,) if grey else IMAGENET_MEAN,
        std=(0.5,) if grey else IMAGENET_STD,
    )
    return initialize(config, preprocessing, class_names, seed=seed)
