"""What the config of a Keras classifier says of its outputs."""

from __future__ import annotations

import pytest

from vitedge.errors import ModelError
from vitedge.importers.soundness import task_of_activation
from vitedge.network.tasks import Task


@pytest.mark.parametrize(
    ("activation", "classes", "given", "task"),
    [
        (None, 5, None, Task.CLASSES),
        ("linear", 5, None, Task.CLASSES),
        ("softmax", 5, None, Task.CLASSES),
        ("sigmoid", 5, None, Task.LABELS),
        ("sigmoid", 1, None, Task.BINARY),
        ({"class_name": "function", "config": "sigmoid"}, 5, None, Task.LABELS),
        ("sigmoid", 5, Task.CLASSES, Task.CLASSES),
        ("tanh", 5, Task.NUMBERS, Task.NUMBERS),
    ],
)
def test_an_activation_says_what_the_outputs_mean(
    activation: object, classes: int, given: Task | None, task: Task
) -> None:
    assert task_of_activation("the model", activation, classes, given) is task


@pytest.mark.parametrize("activation", ["tanh", "hard_sigmoid", "relu", {"config": {"a": 1}}])
def test_other_activations_are_asked_about(activation: object) -> None:
    with pytest.raises(ModelError, match="say what its outputs mean with --task classes"):
        task_of_activation("the model", activation, 5, None)
