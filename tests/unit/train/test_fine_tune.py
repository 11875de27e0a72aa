"""A model of another task made ready to learn classes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.models import random_images
from tests.support.task_artifacts import network_of_task
from vitedge.errors import UsageError
from vitedge.images.image_sets import ImageSet, Sample
from vitedge.network.evaluate import evaluate, forward
from vitedge.network.operators import Linear
from vitedge.network.tasks import Task
from vitedge.train.fine_tune import adapt
from vitedge.train.fit import train
from vitedge.train.recipe import TrainingRecipe

NAMES = ("cat", "dog", "owl")


def test_an_embedding_gets_a_head() -> None:
    network = network_of_task(Task.EMBEDDING)
    made = adapt(network, NAMES)
    assert (made.task, made.labels, list(made.outputs)) == (Task.CLASSES, NAMES, ["logits"])
    head = made.logits.operator
    assert isinstance(head, Linear)
    images = random_images(network)
    expected = forward(network, images) @ head.weight + head.bias
    np.testing.assert_allclose(evaluate(made, images)["logits"], expected, atol=1e-6)


@pytest.mark.parametrize("task", [Task.BINARY, Task.LABELS], ids=str)
def test_a_head_of_labels_becomes_one_of_classes(task: Task) -> None:
    network = network_of_task(task)
    made = adapt(network, NAMES)
    assert (made.task, made.labels, made.classes) == (Task.CLASSES, NAMES, 3)
    same_names = adapt(network, network.labels) if task is Task.LABELS else made
    assert same_names.task is Task.CLASSES


def test_tokens_are_no_vector_to_name() -> None:
    from vitedge.rewrite.further_outputs import with_outputs

    wide = with_outputs(network_of_task(Task.CLASSES), ("tokens",))
    tokens = {"embedding": wide.outputs["tokens"]}
    from dataclasses import replace

    network = replace(wide, outputs=tokens, labels=(), task=Task.EMBEDDING)
    with pytest.raises(UsageError, match="no vector to name"):
        adapt(network, NAMES)


@pytest.mark.parametrize("task", [Task.LABELS, Task.BINARY, Task.EMBEDDING], ids=str)
def test_what_names_no_classes_does_not_learn_them(task: Task) -> None:
    network = network_of_task(task)
    images = ImageSet("noise", [Sample("a", random_images(network)[0], 0)], ("a",))
    with pytest.raises(UsageError, match="what it learns from are classes"):
        train(network, images, TrainingRecipe(epochs=1, warmup_epochs=0))
