"""Training a ViT in Keras, from fresh weights or from a model's."""

from vitedge.train.fine_tune import adapt
from vitedge.train.fit import train
from vitedge.train.progress import Epoch, Step
from vitedge.train.recipe import Augmentation, Distillation, Recipe
from vitedge.train.run import Trained
from vitedge.train.splits import open_training_images, split

__all__ = [
    "Augmentation",
    "Distillation",
    "Epoch",
    "Recipe",
    "Step",
    "Trained",
    "adapt",
    "open_training_images",
    "split",
    "train",
]
