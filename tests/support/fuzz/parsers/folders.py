"""Models that are a folder."""

from __future__ import annotations

from random import Random

from tests.support.fuzz.mutate.hdf5 import mutate_hdf5
from tests.support.fuzz.mutate.json_text import mutate_json
from tests.support.fuzz.mutate.protobuf import mutate_message
from tests.support.fuzz.mutate.raw import mutate_bytes
from tests.support.fuzz.mutate.safetensors import mutate_safetensors
from tests.support.fuzz.parser import KERAS, Parser, from_folders, golden_folder
from tests.support.fuzz.parsers.reading import read_checkpoint, read_source

_HUGGING_FACE = ("deit", "dinov2", "dinov2_registers", "labels", "vit")
_PRESETS = ("converter_preset", "deit_preset", "vit_preset")


def _mutate(name: str, content: bytes, rng: Random) -> bytes:
    if name.endswith(".json"):
        return mutate_json(content, rng)
    if name.endswith(".safetensors"):
        return mutate_safetensors(content, rng)
    if name.endswith(".h5"):
        return mutate_hdf5(content, rng)
    if name == "saved_model.pb" and rng.random() < 0.6:
        return _mutate_graph(content, rng)
    return mutate_bytes(content, rng)


def _mutate_graph(content: bytes, rng: Random) -> bytes:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(content)
    mutate_message(saved, rng)
    return saved.SerializeToString()


def _tutorial() -> list[dict[str, bytes]]:
    files = golden_folder("vit_tutorial_saved_model")
    return [{name.removeprefix("saved/"): content for name, content in files.items()}]


def _traced() -> list[dict[str, bytes]]:
    """A SavedModel that no importer knows by its names, so that its graph is loaded."""
    import tempfile
    from pathlib import Path

    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.random.stateless_normal([192, 5], (1, 2)))

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)], autograph=False)
        def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            flat = tf.reshape(image / 255.0, [-1, 192])
            return {"logits": tf.nn.softmax(tf.matmul(flat, self.weights))}

    with tempfile.TemporaryDirectory() as folder:
        model = Model()
        tf.saved_model.save(model, folder, signatures={"serving_default": model.serve})
        place = Path(folder)
        return [
            {
                str(path.relative_to(place)): path.read_bytes()
                for path in sorted(place.rglob("*"))
                if path.is_file()
            }
        ]


PARSERS = (
    Parser(
        "hugging-face",
        from_folders(
            lambda: [golden_folder(f"hugging_face_{name}") for name in _HUGGING_FACE], _mutate
        ),
        read_source,
    ),
    Parser(
        "hugging-face-sharded",
        from_folders(lambda: [golden_folder("hugging_face_sharded")], _mutate),
        read_source,
    ),
    Parser(
        "keras-hub-preset",
        from_folders(lambda: [golden_folder(f"keras_hub_{name}") for name in _PRESETS], _mutate),
        read_source,
        KERAS,
    ),
    Parser("saved-model-by-name", from_folders(_tutorial, _mutate), read_checkpoint, KERAS),
    Parser("saved-model-lifted", from_folders(_traced, _mutate), read_source, KERAS),
)
