"""Training a ViT in Keras, from fresh weights or from a model's."""

from vitedge.train.fine_tune import adapt
from vitedge.train.fit import train
from vitedge.train.progress import Epoch, Step
from vitedge.train.recipe import Augmentation, Distillation, Recipe
from vitedge.train.run import Trained

__all__ = [
    "Augmentation",
    "Distillation",
    "Epoch",
    "Recipe",
    "Step",
    "Trained",
    "adapt",
    "train",
]
