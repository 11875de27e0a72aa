"""The recipe of a training: every choice that changes the result, in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from vitedge.errors import UsageError
from vitedge.targets.precisions import Precision

# The batch that the usual rates are for; larger ones do not raise them.
_RATES_ARE_FOR = 128


class Products(StrEnum):
    """The type of matrix products; weights, norms, softmax and loss are float32 in each."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images; each is drawn anew for each image and epoch.

    Attributes:
        crop: Smallest share of the image's area that a random crop keeps, stretched to the input
            size (Inception's crop, aspect ratio 3/4 to 4/3); 1 leaves the image whole.
        flip: Mirror every second image left to right.
        operations: RandAugment: how many random operations each image passes (arXiv:1909.13719).
        magnitude: RandAugment: how strong they are, 0..10.
        shift: Largest translation, as a share of the image's side; black comes in.
        rotation: Largest rotation, in degrees.
        zoom: Largest change of size, as a share: 0.1 draws factors from 0.9 to 1.1.
        mixup: Alpha of mixup, the blend of two images (arXiv:1710.09412); 0 is off.
        cutmix: Alpha of CutMix, a part of one image in another (arXiv:1905.04899); 0 is off. With
            both, each batch gets one of the two at random.
    """

    crop: float = 1.0
    flip: bool = False
    operations: int = 0
    magnitude: float = 9.0
    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        _within("crop", self.crop, 0.01, 1)
        _within("operations", self.operations, 0, 14)
        _within("magnitude", self.magnitude, 0, 10)
        _within("shift", self.shift, 0, 1)
        _within("rotation", self.rotation, 0, 180)
        _within("zoom", self.zoom, 0, 0.9)
        _within("mixup", self.mixup, 0, 100)
        _within("cutmix", self.cutmix, 0, 100)

    @property
    def at_most_mirrors(self) -> bool:
        """Whether an image looks in each epoch as it is, or mirrored."""
        amounts = (self.operations, self.shift, self.rotation, self.zoom, self.mixup, self.cutmix)
        return self.crop == 1 and not any(amounts)


@dataclass(frozen=True)
class Distillation:
    """Learning from a teacher's answers beside the labels (arXiv:1503.02531, arXiv:2012.12877).

    Attributes:
        hard: The teacher's class counts like a label; else its probabilities are imitated.
        share: Weight of the teacher in the loss, 0..1; the labels have the rest.
        temperature: Softens both sides' probabilities; for the soft kind only.
        blocks: The weight of the noise over the signal of each block's outputs, if weights are
            rounded or the model is lighter; taken against the model as it was, whoever the
            teacher is.
    """

    hard: bool = True
    share: float = 0.5
    temperature: float = 3.0
    blocks: float = 10.0

    def __post_init__(self) -> None:
        _within("share", self.share, 0, 1)
        _within("temperature", self.temperature, 0.1, 100)
        _within("weight of blocks", self.blocks, 0, 1e6)


@dataclass(frozen=True)
class TrainingRecipe:
    """A training recipe; the defaults suit small sets trained from scratch.

    AdamW, linear warm-up and cosine decay, label smoothing, gradient clipping as in DeiT
    (arXiv:2012.12877, table 9). Norms, biases, tokens and positions are never decayed.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Images per step.
        learning_rate: The rate at the end of the warm-up.
        warmup_epochs: Epochs over which the learning rate rises from 0.
        weight_decay: Decoupled, of weight matrices only.
        label_smoothing: Probability spread over all classes.
        gradient_clip: Largest global norm of the gradient.
        stochastic_depth: Probability that an image skips the last block's branches; the earlier
            blocks' fall linearly to 0 (arXiv:1603.09382).
        average: Momentum of the exponential moving average of the weights, which then are what is
            measured and kept; 0 keeps the last weights.
        balance_classes: Weigh each class by the inverse of its frequency.
        trainable_blocks: The number of last blocks that learn, beside the final norm and the head;
            0 trains the head alone; None trains everything. Outputs of the frozen layers are
            computed once, unless an augmentation other than ``flip`` makes new images.
        layer_decay: Factor on the learning rate per block towards the input (arXiv:2106.08254).
        distillation: The way in which a teacher is listened to, if there is one.
        quantize_aware: Round weights as an artefact of this precision will (int8 or int4), and for
            int8 the inputs of its layers, while the model learns; None leaves them as they are.
        repair: Let the model imitate the model that it was made of, which has more tokens, wider
            layers or larger images.
        keep_best: Keep the weights of the epoch with the best held-out accuracy, not the last.
            The accuracy on these held-out images is then too high: test on others.
        augmentation: Random changes of the images.
        products: The dtype of matrix products; float16 comes with a scale on the loss.
        seed: Fixes the order, the augmentation and all else that is random.
    """

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_epochs: float = 5.0
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    gradient_clip: float = 1.0
    stochastic_depth: float = 0.0
    average: float = 0.0
    balance_classes: bool = False
    trainable_blocks: int | None = None
    layer_decay: float = 1.0
    distillation: Distillation = field(default_factory=Distillation)
    quantize_aware: Precision | None = None
    repair: bool = False
    keep_best: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    products: Products = Products.FLOAT32
    seed: int = 0

    @property
    def repairs(self) -> bool:
        """Whether the model learns to be what it was before it was rounded or made lighter."""
        return self.repair or self.quantize_aware is not None

    def __post_init__(self) -> None:
        _within("epochs", self.epochs, 1, 1_000_000)
        _within("batch size", self.batch_size, 1, 1_000_000)
        _within("learning rate", self.learning_rate, 1e-12, 1e3)
        _within("warm-up epochs", self.warmup_epochs, 0, self.epochs)
        _within("weight decay", self.weight_decay, 0, 100)
        _within("label smoothing", self.label_smoothing, 0, 0.99)
        _within("gradient clip", self.gradient_clip, 1e-12, 1e12)
        _within("stochastic depth", self.stochastic_depth, 0, 0.99)
        _within("average", self.average, 0, 0.999999)
        _within("layer decay", self.layer_decay, 1e-6, 1)
        _within("seed", self.seed, 0, 2**31 - 1)
        if self.trainable_blocks is not None:
            _within("trainable blocks", self.trainable_blocks, 0, 1_000_000)
        if self.quantize_aware not in (None, Precision.INT8, Precision.INT4):
            raise UsageError(
                f"training is aware of int8 and int4 roundings, not of {self.quantize_aware}"
            )
        if self.quantize_aware is not None and self.trainable_blocks == 0:
            raise UsageError(
                "the head alone cannot make up for rounded blocks: with quantize-aware training, "
                "train some blocks, too"
            )
        if self.repair and self.quantize_aware is not None:
            raise UsageError(
                "--quantize-aware comes second: first --repair, --tokens or --width, then "
                "--quantize-aware with --init on the model that was written"
            )


@dataclass(frozen=True)
class Rates:
    """The learning rates; see ``TrainingRecipe``."""

    learning_rate: float
    layer_decay: float


def usual_rates(*, fine_tuning: bool, trainable_blocks: int | None, batch_size: int = 128) -> Rates:
    """The rates that apply if none is given.

    What a model has learnt is lost at the rate that fresh weights need; its first layers, which
    fit other images, too, lose most (arXiv:2106.08254). A head alone is fresh weights. Adam's rate
    goes with the root of the batch size (arXiv:2205.10287).
    """
    scale = math.sqrt(min(batch_size, _RATES_ARE_FOR) / _RATES_ARE_FOR)
    if fine_tuning and trainable_blocks != 0:
        return Rates(learning_rate=float(f"{3e-4 * scale:.2g}"), layer_decay=0.75)
    return Rates(learning_rate=float(f"{1e-3 * scale:.2g}"), layer_decay=1.0)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} must lie between {low:g} and {high:g}, not {value:g}")
