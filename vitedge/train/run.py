"""One training run: its epochs, what it keeps of them, and what it reports."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from vitedge.errors import VitedgeError
from vitedge.train.frozen import (
    FrozenOutputs,
    can_be_kept,
    kept_batches,
    kept_evaluation_batches,
)
from vitedge.train.imitation import Imitation
from vitedge.train.integer_grid import IntegerGrid
from vitedge.train.learner import Learner, Measured
from vitedge.train.loss import Loss, balanced_weights
from vitedge.train.pipeline import (
    Loader,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from vitedge.train.progress import Epoch, OnEpoch, OnStep, Step
from vitedge.train.recipe import Products
from vitedge.train.record import Record, Standing
from vitedge.train.share import shares

if TYPE_CHECKING:
    from pathlib import Path

    from vitedge.network.network import Network
    from vitedge.terminal.progress import Progress
    from vitedge.train.grid_start import GridStart
    from vitedge.train.recipe import TrainingRecipe
    from vitedge.train.replicas import Replicas

_MEASURING = "measuring on the held-out images"


@dataclass(frozen=True)
class Trained:
    """A trained model, and how each epoch went.

    Attributes:
        network: The model, with the weights that the recipe keeps.
        history: Every epoch in order.
        held_out_accuracy: The accuracy of ``network``; None if there was no held-out set.
        worker: Number of this process among those that shared the work; 0 is who writes.
    """

    network: Network
    history: tuple[Epoch, ...]
    held_out_accuracy: float | None
    worker: int = 0


class Run:
    """Everything that a run is made of, ready to go; see ``vitedge.train.fit.train``."""

    def __init__(
        self,
        network: Network,
        loader: Loader,
        held_out: Loader | None,
        recipe: TrainingRecipe,
        teacher: Network | None,
        folder: Path | None,
        progress: Progress,
        replicas: Replicas,
        grid: GridStart | None = None,
        original: Network | None = None,
    ) -> None:
        from vitedge.in_keras.model import compute_products_in, to_keras

        self._recipe, self._loader, self._classes = recipe, loader, network.classes
        self._keeps, self._folder, self._progress = can_be_kept(recipe, teacher), folder, progress
        self._evaluation_seconds = 0.0
        self._has_graph = False
        progress("building the model", 0, 1)
        self._steps = steps_per_epoch(len(loader), recipe.batch_size)
        self._replicas = replicas
        self._divided = None
        if self._replicas.count > 1:
            batch_size = min(recipe.batch_size, len(loader))
            self._divided = shares(batch_size, self._replicas.count)
        self._model = to_keras(network if grid is None else grid.network)
        weights = np.ones(self._classes, np.float32)
        if recipe.balance_classes:
            weights = balanced_weights(loader.labels, self._classes)
        exact = teaching = None
        imitated = network if grid is not None else original
        if imitated is not None and (teacher is imitated or recipe.distillation.blocks):
            exact = to_keras(imitated if grid is None else grid.exact)
        if teacher is not None:
            teaching = exact if exact is not None and teacher is imitated else to_keras(teacher)
        for each in (exact, teaching):
            if each is not None:
                compute_products_in(each, recipe.products)
        imitation = None if exact is None else Imitation(self._model.form, exact)
        loss = Loss(recipe, weights, teaching, imitation)
        self._learner = Learner(
            *(self._model, recipe, loss, self._steps),
            after_frozen=self._keeps,
            replicas=replicas,
            divided=self._divided,
            grid=None if grid is None else IntegerGrid(self._model, grid),
        )
        self._held_out = None if held_out is None else self._evaluation(held_out)

    def finish(
        self,
        record: Record | None,
        *,
        resume: bool,
        on_step: OnStep | None,
        on_epoch: OnEpoch | None,
    ) -> Trained:
        """Trains to the last epoch."""
        standing = Standing((), (), self._learner.weights(), None)
        if resume:
            standing = self._resumed(standing if record is None else record.read())
        first = len(standing.history)
        started = time.perf_counter() - (standing.history[-1].seconds if first else 0.0)
        batches = self._batches(first) if first < self._recipe.epochs else iter(())
        for index in range(first, self._recipe.epochs):
            last = self._train(index, batches, on_step)
            with self._learner.averaged():
                measured = self._measured()
                accuracy = None if measured is None else measured.accuracy
                standing = self._with_kept(standing, accuracy)
            epoch = Epoch(
                number=index + 1,
                of=self._recipe.epochs,
                loss=last.loss,
                accuracy=last.accuracy,
                held_out_accuracy=accuracy,
                learning_rate=self._learner.learning_rate,
                images_per_second=last.images_per_second,
                seconds=time.perf_counter() - started,
                held_out_loss=None if measured is None else measured.loss,
            )
            standing = replace(standing, history=(*standing.history, epoch))
            if record is not None:
                self._progress("recording the epoch", 0, 1)
                record.write(replace(standing, state=self._learner.state()))
            if on_epoch is not None:
                on_epoch(epoch)
        self._learner.set_weights(standing.kept)
        network = self._learner.network()
        return Trained(network, standing.history, standing.kept_accuracy, self._replicas.worker)

    def _measured(self) -> Measured | None:
        """Measures the model on held-out images, if there are any, and notes how long that took."""
        if self._held_out is None:
            return None
        started = time.perf_counter()
        measured = self._learner.measured(self._watched(self._held_out()))
        self._evaluation_seconds = time.perf_counter() - started
        return measured

    def _watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The held-out batches; the first of all builds a graph, too."""
        begins = not self._evaluation_seconds
        self._progress("building the graph that measures" if begins else _MEASURING, 0, 1)
        for batch in batches:
            yield batch
            self._progress(_MEASURING, 0, 1)

    def _resumed(self, standing: Standing) -> Standing:
        """Takes up where the chief's record stands."""
        about = json.loads(self._replicas.text_from_chief(json.dumps(standing.about())))
        state = self._replicas.from_chief(standing.state or self._learner.state())
        kept = self._replicas.from_chief(standing.kept)
        self._learner.restore(state)
        return Standing.of(about, state, kept)

    def _evaluation(self, loader: Loader) -> Callable[[], Iterator[Any]]:
        """Begins batches without augmentation."""
        make: Callable[..., Any] = functools.partial(evaluation_batches, loader)
        if self._keeps:
            outputs = self._frozen_outputs(
                loader, "held-out images through the frozen layers", self._learner.frozen_exactly
            )
            make = functools.partial(kept_evaluation_batches, outputs)
        of = self._replicas.count
        return lambda: self._replicas.streams(lambda replica: make(self._classes, replica, of))

    def _batches(self, first_epoch: int) -> Iterator[Any]:
        recipe, loader, divided = self._recipe, self._loader, self._divided
        make: Callable[..., Any] = functools.partial(training_batches, loader)
        if self._keeps:
            outputs = self._frozen_outputs(
                loader,
                "images through the frozen layers",
                self._learner.frozen,
                mirrored=recipe.augmentation.flip,
            )
            make = functools.partial(kept_batches, outputs)

        def stream(replica: int) -> Any:
            share = None if divided is None else divided[replica]
            return make(self._classes, recipe, first_epoch, share)

        return self._replicas.streams(stream)

    def _frozen_outputs(
        self,
        loader: Loader,
        what: str,
        compute: Callable[[Any], Any],
        *,
        mirrored: bool = False,
    ) -> FrozenOutputs:
        """Each of several processes computes them for itself."""
        return FrozenOutputs(
            evaluation_batches(loader, self._classes),
            loader.labels,
            compute,
            mirrored=mirrored,
            folder=self._folder,
            progress=lambda done, total: self._progress(what, done, total),
        )

    def _train(self, index: int, batches: Iterator[Any], on_step: OnStep | None) -> Step:
        """Learns for one epoch; where it stands at its end.

        The very first step makes the graph, which says nothing about the speed of the others.

        Raises:
            VitedgeError: The loss is infinite or not a number.
        """
        first, first_seconds = not self._has_graph, 0.0
        if first:
            self._progress("building the graph of a training step", 0, 1)
            self._has_graph = True
        started = time.perf_counter()
        batch_size = min(self._recipe.batch_size, len(self._loader))
        total = self._recipe.epochs * self._steps
        losses = accuracies = 0.0
        for number, (inputs, targets) in enumerate(islice(batches, self._steps), start=1):
            loss, accuracy = (float(value) for value in self._learner.step(inputs, targets))
            if not math.isfinite(loss):
                raise self._lost(loss, index)
            losses, accuracies = losses + loss, accuracies + accuracy
            done = index * self._steps + number
            seconds = time.perf_counter() - started
            if first and number > 1:
                seconds = (seconds - first_seconds) * number / (number - 1)
            elif first:
                first_seconds = seconds
            evaluations = self._evaluation_seconds * (self._recipe.epochs - index)
            left = seconds / number * (total - done) + evaluations
            step = Step(
                done=done,
                of=total,
                loss=losses / number,
                accuracy=accuracies / number,
                images_per_second=number * batch_size / seconds,
                seconds_left=None if first and number == 1 and done < total else left,
            )
            if on_step is not None:
                on_step(step)
        return step

    def _lost(self, loss: float, index: int) -> VitedgeError:
        recipe = self._recipe
        message = (
            f"the loss became {loss} in epoch {index + 1}: lower the learning rate "
            f"(now {recipe.learning_rate:g}) or lengthen the warm-up "
            f"(now {recipe.warmup_epochs:g} epochs)"
        )
        if recipe.products == Products.FLOAT16:
            message += ", or compute in bfloat16 or float32: float16 ends at 65,504"
        return VitedgeError(message)

    def _with_kept(self, standing: Standing, measured: float | None) -> Standing:
        """The standing with the model's present weights kept, unless better ones already are."""
        best = standing.kept_accuracy if self._recipe.keep_best else None
        if best is not None and measured is not None and measured <= best:
            return standing
        return replace(standing, kept=self._learner.weights(), kept_accuracy=measured)
