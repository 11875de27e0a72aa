"""How a model is trained: every choice that changes the result, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitedge.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images; each is drawn anew for each image and epoch.

    Attributes:
        shift: Largest translation, as a share of the image's side.
        rotation: Largest rotation, in degrees.
        zoom: Largest change of size, as a share: 0.1 draws factors from 0.9 to 1.1.
    """

    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0

    def __post_init__(self) -> None:
        if min(self.shift, self.rotation, self.zoom) < 0 or self.zoom >= 1:
            raise UsageError(f"augmentation out of range: {self}")


@dataclass(frozen=True)
class Recipe:
    """A training recipe; the defaults suit small sets trained from scratch.

    AdamW, linear warm-up and cosine decay, label smoothing, gradient clipping as in DeiT
    (arXiv:2012.12877, table 9). Norms, biases, tokens and positions are never decayed.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Images per step.
        learning_rate: At the end of the warm-up.
        warmup_epochs: Epochs over which the learning rate rises from 0.
        weight_decay: Decoupled, of weight matrices only.
        label_smoothing: Probability spread over all classes.
        gradient_clip: Largest global norm of the gradient.
        augmentation: Random changes of the images.
        seed: Fixes the order, the augmentation and all else that is random.
    """

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_epochs: float = 5.0
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    gradient_clip: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise UsageError(
                f"{self.epochs} epochs of batches of {self.batch_size}: need 1 or more"
            )
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(
                f"label smoothing must be 0 or more and below 1: {self.label_smoothing}"
            )
        if self.learning_rate <= 0 or self.gradient_clip <= 0:
            raise UsageError("learning rate and gradient clip must be positive")
