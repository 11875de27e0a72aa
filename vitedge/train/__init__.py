"""Training a ViT in Keras, from fresh weights or from a model's."""

from vitedge.train.digits import DIGITS_RECIPE, train_digits
from vitedge.train.fit import Trained, train
from vitedge.train.progress import Epoch
from vitedge.train.recipe import Augmentation, Recipe

__all__ = ["Augmentation", "DIGITS_RECIPE", "Epoch", "Recipe", "Trained", "train", "train_digits"]
