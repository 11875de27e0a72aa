"""Training a model in Keras, from fresh weights or from a model's."""

from vitedge.train.engine import start_tensorflow
from vitedge.train.fine_tune import adapt
from vitedge.train.fit import train
from vitedge.train.mixed import choose
from vitedge.train.progress import Epoch, Step
from vitedge.train.recipe import Augmentation, Distillation, Products, TrainingRecipe, usual_rates
from vitedge.train.replicas import Replicas, Strategy, demand_cluster, open_replicas
from vitedge.train.run import Trained
from vitedge.train.splits import open_training_images, split

__all__ = [
    "Augmentation",
    "Distillation",
    "Epoch",
    "Products",
    "TrainingRecipe",
    "Replicas",
    "Step",
    "Strategy",
    "Trained",
    "adapt",
    "choose",
    "demand_cluster",
    "open_replicas",
    "open_training_images",
    "split",
    "start_tensorflow",
    "train",
    "usual_rates",
]
