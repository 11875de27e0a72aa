"""Small models that are no vision transformers, for the generic path; as people write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx
from keras import layers, ops

SIZE = 32
CLASSES = 10


@keras.saving.register_keras_serializable("tests")
class Roll(layers.Layer):
    """The cyclic shift of Swin (arXiv:2103.14030)."""

    def __init__(self, shift, **kwargs):
        super().__init__(**kwargs)
        self.shift = shift

    def call(self, x):
        return ops.roll(x, (self.shift, self.shift), axis=(1, 2))

    def get_config(self):
        return super().get_config() | {"shift": self.shift}


@keras.saving.register_keras_serializable("tests")
class Patches(layers.Layer):
    """As in keras.io's example of a ViT: ``extract_patches``, then a reshape by the batch."""

    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images):
        batch, height, width, channels = ops.shape(images)
        patches = ops.image.extract_patches(images, size=self.patch_size)
        count = (height // self.patch_size) * (width // self.patch_size)
        return ops.reshape(patches, (batch, count, self.patch_size**2 * channels))

    def get_config(self):
        return super().get_config() | {"patch_size": self.patch_size}


@keras.saving.register_keras_serializable("tests")
class PatchEncoder(layers.Layer):
    """As in keras.io's example: positions through an Embedding."""

    def __init__(self, num_patches, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.num_patches, self.projection_dim = num_patches, projection_dim
        self.projection = layers.Dense(projection_dim)
        self.position_embedding = layers.Embedding(num_patches, projection_dim)

    def build(self, shape):
        self.projection.build(shape)
        self.position_embedding.build(None)

    def call(self, patches):
        positions = ops.expand_dims(ops.arange(0, self.num_patches, step=1), axis=0)
        return self.projection(patches) + self.position_embedding(positions)

    def get_config(self):
        config = {"num_patches": self.num_patches, "projection_dim": self.projection_dim}
        return super().get_config() | config


CUSTOM_OBJECTS = tuple(
    f"tests.support.generic_models:{name}" for name in ("Roll", "Patches", "PatchEncoder")
)


def cnn() -> keras.Model:
    """MobileNetV3's parts, and a softmax at the end."""
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for width in (16, 24):
        x = layers.Conv2D(width, 3, 2, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        y = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.Add()([x, layers.Activation("hard_swish")(y)])
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = layers.Multiply()([x, layers.Conv2D(width, 1, activation="sigmoid")(gate)])
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def swin() -> keras.Model:
    """Two blocks of windows of 4 x 4 patches, the second one shifted; exact GELU."""
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(24, 4, 4)(layers.Rescaling(1 / 255.0)(image))
    for shift in (0, 2):
        y = Roll(-shift)(layers.LayerNormalization()(x))
        y = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((2, 4, 2, 4, 24))(y))
        y = layers.Reshape((4, 16, 24))(y)
        y = layers.MultiHeadAttention(2, 12, attention_axes=(2,))(y, y)
        y = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((2, 2, 4, 4, 24))(y))
        x = layers.Add()([x, Roll(shift)(layers.Reshape((8, 8, 24))(y))])
        y = layers.Dense(48, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(24)(y)])
    x = layers.GlobalAveragePooling2D()(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(CLASSES)(x))


def mobilevit() -> keras.Model:
    """A MobileViT block (arXiv:2110.02178): attention among pixels of equal place in 2 x 2."""
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(16, 3, 2, padding="same", activation="silu")(image)
    y = layers.Reshape((8, 2, 8, 2, 24))(layers.Conv2D(24, 1)(x))
    y = layers.Reshape((4, 64, 24))(layers.Permute((2, 4, 1, 3, 5))(y))
    z = layers.LayerNormalization()(y)
    y = layers.Add()([y, layers.MultiHeadAttention(2, 12, attention_axes=(2,))(z, z)])
    z = layers.Dense(48, activation="silu")(layers.LayerNormalization()(y))
    y = layers.Add()([y, layers.Dense(24)(z)])
    y = layers.Permute((3, 1, 4, 2, 5))(layers.Reshape((2, 2, 8, 8, 24))(y))
    x = layers.Concatenate()([x, layers.Reshape((16, 16, 24))(y)])
    x = layers.Conv2D(32, 3, padding="same", activation="silu")(x)
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def convnext() -> keras.Model:
    """A ConvNeXt block (arXiv:2201.03545): a convolution in groups, which Keras gives to XLA."""
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(16, 4, 4)(layers.Rescaling(1 / 255.0)(image))
    y = layers.Conv2D(16, 7, padding="same", groups=16)(x)
    y = layers.Dense(32, activation="gelu")(layers.LayerNormalization()(y))
    x = layers.Add()([x, layers.Dense(16)(y)])
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def keras_io_example() -> keras.Model:
    """The ViT of keras.io's examples: a GELU after both layers of an MLP, a head on all tokens."""
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Normalization(mean=[120.0] * 3, variance=[3600.0] * 3)(image)
    x = layers.RandomFlip("horizontal")(layers.Resizing(24, 24)(x))
    x = PatchEncoder(16, 24)(Patches(6)(x))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([layers.MultiHeadAttention(2, 24, dropout=0.1)(y, y), x])
        y = _mlp(layers.LayerNormalization(epsilon=1e-6)(x), (48, 24))
        x = layers.Add()([y, x])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(image, layers.Dense(CLASSES)(_mlp(x, (64, 32))))


def _mlp(x, widths):
    for width in widths:
        x = layers.Dropout(0.1)(layers.Dense(width, activation=keras.activations.gelu)(x))
    return x


MODELS: dict[str, Callable[[], keras.Model]] = {
    "cnn": cnn,
    "swin": swin,
    "mobilevit": mobilevit,
    "convnext": convnext,
    "keras_io_example": keras_io_example,
}


def build(name: str) -> keras.Model:
    """A model whose weights are random, larger than fresh ones, and whose norms do something."""
    model = MODELS[name]()
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        values = np.asarray(weight)
        if "variance" in weight.path:
            weight.assign(values * rng.uniform(0.5, 2, values.shape))
        elif values.ndim < 2:
            weight.assign(values + rng.normal(0, 0.1, values.shape))
        else:
            weight.assign(values * 1.5)
    return model


def pixels(n: int = 4) -> np.ndarray:
    """uint8 images."""
    return np.random.default_rng(5).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)


def write_nchw_onnx(path: Path) -> None:
    """A convolutional network as exported from PyTorch: NCHW, a free batch, names of its own."""
    rng = np.random.default_rng(2)
    node, constant = onnx.helper.make_node, onnx.numpy_helper.from_array

    def random(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    nodes = [
        node("Conv", ["pixels", "w1"], ["c"], "stem", kernel_shape=[3, 3], strides=[2, 2]),
        node("HardSwish", ["c"], ["h"], "act"),
        node("GlobalAveragePool", ["h"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flat"),
        node("Gemm", ["f", "w2", "b2"], ["logits"], "head", transB=1),
        node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1),
    ]
    weights = {"w1": random(16, 3, 3, 3), "w2": random(CLASSES, 16), "b2": random(CLASSES)}
    batch = ["batch", 3, SIZE, SIZE]
    graph = onnx.helper.make_graph(
        nodes,
        "cnn",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, batch)],
        [onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, None)],
        [constant(values, name) for name, values in weights.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
