"""One training run, from a ViT to a ViT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitedge.chatter import quiet
from vitedge.errors import missing_package
from vitedge.train.optimizer import optimizer
from vitedge.train.pipeline import Loader, evaluation_batches, steps_per_epoch, training_batches
from vitedge.train.progress import Epoch, Watch

if TYPE_CHECKING:
    from vitedge.data import ImageSet
    from vitedge.train.recipe import Recipe
    from vitedge.vit import ViT

_EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Trained:
    """A trained model, and how each epoch went."""

    vit: ViT
    history: tuple[Epoch, ...]


def train(
    vit: ViT,
    images: ImageSet,
    recipe: Recipe,
    *,
    held_out: ImageSet | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Trains a model, starting from the weights it has.

    Args:
        vit: Where to start; left unchanged.
        images: Labelled images.
        recipe: How.
        held_out: Labelled images to measure the accuracy on after each epoch.
        on_epoch: Called after each epoch, to show progress.

    Raises:
        UnavailableError: TensorFlow or Keras is not installed.
        DataError: An image cannot be decoded, has no label, or one that the model lacks.
        VitedgeError: The loss is no longer a number.
    """
    keras, tf = _engines()
    from vitedge.keras_model import from_keras, to_keras

    classes = vit.config.classes
    loader = Loader(images, vit.preprocessing, classes)
    held_out_loader = None if held_out is None else Loader(held_out, vit.preprocessing, classes)
    steps = steps_per_epoch(len(loader), recipe.batch_size)
    model = to_keras(vit)
    model.compile(
        optimizer=optimizer(model, recipe, steps),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    watch = Watch(recipe, steps * min(recipe.batch_size, len(loader)), on_epoch)
    try:
        model.fit(
            training_batches(loader, classes, recipe),
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            validation_data=held_out_loader
            and evaluation_batches(held_out_loader, classes, _EVALUATION_BATCH),
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=watch.epoch_end)],
            shuffle=False,
            verbose=0,
        )
    except tf.errors.OpError as error:
        for source in (loader, held_out_loader):
            if source is not None and source.failure is not None:
                raise source.failure from error
        raise
    return Trained(from_keras(model), tuple(watch.history))


def _engines() -> tuple[Any, Any]:
    try:
        with quiet():
            import keras
            import tensorflow as tf

            tf.config.list_logical_devices()  # looks for a GPU, with more notes
    except ImportError as error:
        raise missing_package(error.name or "tensorflow", "train") from error
    return keras, tf
