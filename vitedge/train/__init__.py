"""Training a ViT in Keras, from fresh weights or from a model's."""

from vitedge.train.fit import Trained, train
from vitedge.train.progress import Epoch
from vitedge.train.recipe import Augmentation, Recipe

__all__ = ["Augmentation", "Epoch", "Recipe", "Trained", "train"]
