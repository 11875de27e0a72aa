"""Keras files and SavedModels: what loads, what is refused, and what comes out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tests.support.models import random_images, random_network
from tests.support.plain import plain
from vitedge.elements.kinds import Pooling
from vitedge.errors import ModelError, NotAViTError, UsageError
from vitedge.importers import Imported, ImportOptions, read_model
from vitedge.importers.lift.keras_safety import inspect_config
from vitedge.importers.lifted_keras import PLUGIN
from vitedge.in_keras.model import to_keras
from vitedge.network.evaluate import forward
from vitedge.terminal.silence import quiet

# Keras sums in another order than NumPy; through two blocks 1e-6 of the range.
TOLERANCE = 1e-5


def stock_vit(batch: int | None = None, *, dropout: float = 0.1) -> keras.Model:
    """A functional ViT of stock layers on pixels 0..255."""
    image = keras.Input((16, 24, 3), batch_size=batch)
    x = layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3000.0, 3100.0, 3200.0])(image)
    x = layers.Conv2D(24, 8, 8)(x)
    x = layers.Reshape((6, 24))(x)
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.MultiHeadAttention(3, 8, dropout=dropout)(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(40, activation="gelu", bias_initializer="normal")(y)
        y = layers.Dropout(dropout)(y)
        x = layers.Add()([x, layers.Dense(24)(y)])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, layers.Dense(5, activation="softmax")(x))


@pytest.fixture(scope="module")
def stock() -> keras.Model:
    keras.utils.set_random_seed(0)
    return stock_vit()


def read(path: Path, options: ImportOptions | None = None) -> Imported:
    assert PLUGIN.recognizes(path)
    return PLUGIN.read(path, options or ImportOptions())


def assert_same(model: keras.Model, imported: Imported, *, softmax: bool = True) -> None:
    vit = imported.network
    pixels = random_images(vit, 2)
    logits = forward(vit, pixels)
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) if softmax else logits
    expected = np.asarray(model(pixels.astype(np.float32), training=False))
    assert np.abs(found - expected).max() < TOLERANCE * max(1.0, float(np.ptp(expected)))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_model_of_stock_layers_lifts(
    stock: keras.Model, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    stock.save(path)
    imported = read(path)
    assert_same(stock, imported)
    assert plain(imported.network).pooling is Pooling.MEAN
    assert plain(imported.network).raw_pixels
    assert imported.path.startswith("lifted: 2 blocks, max logit difference ")
    assert imported.path.endswith("normalises inside, softmax at the end removed")
    np.testing.assert_allclose(
        imported.network.preprocessing.mean, np.array([120, 110, 100]) / 255, 1e-5
    )


def test_a_saved_model_folder_lifts_without_keras(stock: keras.Model, tmp_path: Path) -> None:
    stock.export(str(tmp_path / "model"), verbose=False)
    assert_same(stock, read(tmp_path / "model"))


def test_a_fixed_batch_lifts(tmp_path: Path) -> None:
    model = stock_vit(batch=3)
    model.save(tmp_path / "model.keras")
    vit = read(tmp_path / "model.keras").network
    pixels = random_images(vit, 3)
    logits = forward(vit, pixels)
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(found - np.asarray(model(pixels.astype(np.float32)))).max() < TOLERANCE


@pytest.mark.parametrize(
    ("policy", "rounding"),
    [("mixed_float16", 0.01), ("mixed_bfloat16", 0.1), ("float16", 0.01), ("bfloat16", 0.1)],
)
@pytest.mark.parametrize(
    "kind", ["model.keras", pytest.param("saved_model", marks=pytest.mark.slow)]
)
def test_a_model_in_half_precision_lifts_in_float32(
    policy: str, rounding: float, kind: str, tmp_path: Path
) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = stock_vit()
    finally:
        keras.config.set_dtype_policy(before)
    path = tmp_path / kind
    model.save(path) if path.suffix else model.export(path, verbose=False)
    imported = read(path)
    assert float(imported.proof.split()[3]) < 1e-4, imported.proof
    pixels = random_images(imported.network, 2)
    logits = forward(imported.network, pixels)
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    theirs = np.asarray(model(pixels.astype(np.float32)), np.float32)
    assert np.abs(found - theirs).max() < rounding


def test_our_own_subclassed_model_lifts_to_itself(tmp_path: Path) -> None:
    vit = random_network(prefix_tokens=3, qk_norm=True, head_hidden=(12,))
    to_keras(vit).save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match="--image-size"):  # a subclassed model does not say it
        read(tmp_path / "model.keras")
    lifted = read(tmp_path / "model.keras", ImportOptions(image_size=(32, 32))).network
    assert plain(lifted).prefix_tokens == 3
    images = random_images(vit, 2)
    expected = forward(vit, images)
    assert np.abs(forward(lifted, images) - expected).max() < TOLERANCE * np.ptp(expected)


CUSTOM = """
import keras
from keras import layers, ops

class Tokens(layers.Layer):
    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="normal")
        self.places = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), initializer="normal")
    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1) + self.places

class Block(layers.Layer):
    def __init__(self, heads, dim, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.dim = heads, dim
        self.norm1, self.norm2 = layers.LayerNormalization(), layers.LayerNormalization()
        self.qkv, self.out = layers.Dense(3 * dim), layers.Dense(dim)
        self.mlp = keras.Sequential([layers.Dense(2 * dim, "silu"), layers.Dense(dim)])
    def build(self, shape):
        self.norm1.build(shape); self.norm2.build(shape)
        self.qkv.build(shape); self.out.build(shape); self.mlp.build(shape)
    def call(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))
    def attend(self, x):
        tokens, head = x.shape[1], self.dim // self.heads
        qkv = ops.reshape(self.qkv(x), (-1, tokens, 3, self.heads, head))
        q, k, v = ops.unstack(qkv, axis=2)
        scores = ops.einsum("bqhd,bkhd->bhqk", q, k) / head ** 0.5
        mixed = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), v)
        return self.out(ops.reshape(mixed, (-1, tokens, self.dim)))
    def get_config(self):
        return super().get_config() | {"heads": self.heads, "dim": self.dim}

def model():
    return keras.Sequential([
        keras.Input((16, 16, 3)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(12, 8, 8), layers.Reshape((4, 12)),
        Tokens(), Block(2, 12), Block(2, 12),
        layers.LayerNormalization(),
        layers.Flatten(), layers.Dense(9, "tanh"), layers.Dense(6),
    ])
"""


@pytest.fixture
def custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[keras.Model, Path]:
    """A Sequential model with layers of the user's own, in a module beside it."""
    (tmp_path / "their_layers.py").write_text(CUSTOM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_layers", raising=False)
    import their_layers

    model = their_layers.model()
    model.save(tmp_path / "model.keras")
    return model, tmp_path / "model.keras"


def test_custom_layers_are_named_and_not_imported_unasked(custom: tuple[keras.Model, Path]) -> None:
    _, path = custom
    (path.parent / "their_layers.py").write_text("raise SystemExit('their code ran')")
    del sys.modules["their_layers"]
    with pytest.raises(ModelError, match=r"or functions \(Tokens, Block\).*--custom-objects"):
        read(path)


def test_custom_layers_lift_when_given(custom: tuple[keras.Model, Path]) -> None:
    model, path = custom
    given = ("their_layers:Tokens", "their_layers:Block")
    imported = read(path, ImportOptions(custom_objects=given, labels=tuple("abcdef")))
    assert_same(model, imported, softmax=False)
    assert plain(imported.network).pooling is Pooling.FLATTEN
    assert imported.network.labels == tuple("abcdef")


@pytest.mark.parametrize("given", ["their_layers", "their_layers:Absent", "absent_module:Tokens"])
def test_a_custom_object_that_cannot_be_imported_is_a_usage_error(
    custom: tuple[keras.Model, Path], given: str
) -> None:
    with pytest.raises(UsageError, match=given):
        read(custom[1], ImportOptions(custom_objects=(given,)))


def test_a_registered_layer_of_an_h5_file_is_asked_for_by_its_own_name() -> None:
    layer = {"class_name": "Mine>Tokens", "config": {"name": "tokens"}, "inbound_nodes": []}
    assert dict(inspect_config({"layers": [layer]}).custom) == {"Tokens": "Mine>Tokens"}


def test_code_in_a_file_runs_only_when_trusted(tmp_path: Path) -> None:
    stock = stock_vit()
    image = keras.Input((16, 24, 3))
    doubled = layers.Lambda(lambda x: x / 2.0, output_shape=(16, 24, 3), name="halve")(image)
    model = keras.Model(image, stock(doubled))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match=r"layer 'halve' .* --trust"):
        read(tmp_path / "model.keras")
    assert_same(model, read(tmp_path / "model.keras", ImportOptions(trust=True)))


def test_what_the_caller_says_about_the_input_is_believed(tmp_path: Path) -> None:
    image = keras.Input((16, 24, 3))
    whole = stock_vit()
    x = image
    for layer in whole.layers[2:4]:
        x = layer(x)
    inner = keras.Model(whole.layers[3].output, whole.output)
    keras.Model(image, inner(x)).save(tmp_path / "model.keras")
    unsaid = read(tmp_path / "model.keras")
    assert "assumed: pixels / 255" in unsaid.path
    assert unsaid.network.preprocessing.std == (1.0, 1.0, 1.0)
    told = read(tmp_path / "model.keras", ImportOptions(mean=(0.5,) * 3, std=(0.25,) * 3))
    assert told.network.preprocessing.std == (0.25, 0.25, 0.25)
    assert not plain(told.network).raw_pixels


def convolutional() -> keras.Model:
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu")(image)
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def with_stem() -> keras.Model:
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(24, 3, 2, "same", activation="relu")(image)
    x = layers.Reshape((64, 24))(x)
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(y, y)])
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def with_overlap() -> keras.Model:
    image = keras.Input((16, 24, 3))
    x = layers.Conv2D(24, 12, 4)(image)
    x = layers.Reshape((2 * 4, 24))(x)
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(y, y)])
    y = layers.LayerNormalization()(x)
    y = layers.Dense(24)(layers.Dense(30, activation="gelu")(y))
    x = layers.Add()([x, y])
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def keras_io() -> keras.Model:
    """As in keras.io's image_classification_with_vision_transformer: two GELUs an MLP."""
    image = keras.Input((16, 16, 3))
    x = layers.Dense(24)(layers.Reshape((4, 192))(image))
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Add()([layers.MultiHeadAttention(3, 24)(y, y), x])
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.Dense(24, activation="gelu")(layers.Dense(48, activation="gelu")(y))
    x = layers.Add()([y, x])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(image, layers.Dense(5)(layers.Dense(16, activation="gelu")(x)))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(with_stem, id="convolutional stem"),
        pytest.param(with_overlap, id="overlapping patches"),
        pytest.param(keras_io, id="two activations in the MLP"),
    ],
)
def test_what_has_another_structure_lifts_all_the_same(build, tmp_path: Path) -> None:
    model = build()
    model.save(tmp_path / "model.keras")
    imported = read(tmp_path / "model.keras")
    assert "assumed: pixels / 255" in imported.path
    pixels = random_images(imported.network, 2)
    expected = np.asarray(model(pixels.astype(np.float32) / 255, training=False))
    assert np.abs(forward(imported.network, pixels) - expected).max() < TOLERANCE


def test_augmentation_in_front_is_left_out_and_told(tmp_path: Path) -> None:
    model = with_overlap()
    image = keras.Input(model.input_shape[1:])
    x = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])(image)
    keras.Model(image, model(x)).save(tmp_path / "model.keras")
    imported = read_model(tmp_path / "model.keras")
    assert imported.path.endswith(", augmentation left out (RandomFlip, RandomRotation)")
    pixels = random_images(imported.network, 2)
    expected = np.asarray(model(pixels.astype(np.float32) / 255, training=False))
    assert np.abs(forward(imported.network, pixels) - expected).max() < TOLERANCE
    model.save(tmp_path / "bare.keras")
    assert "left out" not in read_model(tmp_path / "bare.keras").path


def test_dropout_that_stayed_on_is_left_out_and_told(tmp_path: Path) -> None:
    model = with_overlap()
    image = keras.Input(model.input_shape[1:])
    x = layers.Dropout(0.5)(image, training=True)
    with quiet():
        keras.Model(image, model(x)).export(tmp_path / "saved", verbose=False)
    imported = read_model(tmp_path / "saved")
    assert imported.path.endswith("augmentation or dropout left out, which was switched on")
    pixels = random_images(imported.network, 2)
    expected = np.asarray(model(pixels.astype(np.float32) / 255, training=False))
    assert np.abs(forward(imported.network, pixels) - expected).max() < TOLERANCE


def test_a_blend_that_flips_at_random_is_left_out_and_told(tmp_path: Path) -> None:
    """As Keras 2 exports RandomFlip; and it takes its positions as rows of a variable."""
    import tensorflow as tf

    model = with_overlap()

    class Exported(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.generator = model, tf.random.Generator.from_seed(1)
            self.shades = tf.Variable(tf.zeros([5, 3]))

        @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)])
        def __call__(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            image += tf.gather(self.shades, tf.zeros([1], tf.int32))
            turn = tf.round(self.generator.uniform([tf.shape(image)[0], 1, 1, 1]))
            flipped = turn * tf.reverse(image, [2]) + (1 - turn) * image
            return {"logits": self.model(flipped, training=False)}

    exported = Exported()
    with quiet():
        tf.saved_model.save(
            exported, str(tmp_path / "saved"), signatures=exported.__call__.get_concrete_function()
        )
    imported = read_model(tmp_path / "saved")
    assert imported.path.endswith("augmentation or dropout left out, which was switched on")
    pixels = random_images(imported.network, 2)
    expected = np.asarray(model(pixels.astype(np.float32) / 255, training=False))
    assert np.abs(forward(imported.network, pixels) - expected).max() < TOLERANCE


def test_a_network_of_convolutions_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    convolutional().save(tmp_path / "model.keras")
    with pytest.raises(NotAViTError, match="no softmax attention"):
        read(tmp_path / "model.keras")


def test_a_file_of_keras_2_lifts_with_its_library_or_names_it() -> None:
    golden = Path(__file__).parents[3] / "golden" / "lift"
    if importlib.util.find_spec("tf_keras") is None:
        with pytest.raises(ModelError, match=r"of Keras 2.*pip install tf-keras"):
            read(golden / "keras_2.h5")
        return
    vit = read(golden / "keras_2.h5").network
    assert [block.norm1.eps for block in vit.blocks] == [1e-3, 1e-6]
    with np.load(golden / "keras_2.npz") as arrays:
        logits = forward(vit, arrays["images"])
        found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert np.abs(found - arrays["probabilities"]).max() < TOLERANCE


def test_weights_alone_and_damaged_files_are_not_recognized(
    stock: keras.Model, tmp_path: Path
) -> None:
    stock.save(tmp_path / "whole.keras")
    stock.save_weights(tmp_path / "some.weights.h5")
    assert not PLUGIN.recognizes(tmp_path / "some.weights.h5")
    data = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(data[: len(data) // 2])
    assert not PLUGIN.recognizes(tmp_path / "half.keras")
    with pytest.raises(ModelError, match="truncated"):
        PLUGIN.read(tmp_path / "half.keras", ImportOptions())


def test_an_image_by_name_is_no_cause_for_a_warning(tmp_path: Path) -> None:
    # KerasHub's backbones name their only input; here warnings are errors.
    plain = stock_vit()
    images = keras.Input((16, 24, 3), name="images")
    keras.Model({"images": images}, plain(images)).save(tmp_path / "named.keras")
    assert_same(plain, read(tmp_path / "named.keras"))
