"""Texts as classes by the text towers of transformers' models, against transformers' own logits."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from tests.support.golden_cases import GOLDEN, TOLERANCE
from vitedge.cli import main
from vitedge.errors import ModelError, NotAViTError, UsageError, VitedgeError
from vitedge.importers import ImportOptions, read_model
from vitedge.importers.hugging_face.text_tower import embed_texts
from vitedge.network.evaluate import forward
from vitedge.network.tasks import Task
from vitedge.pipeline.zero_shot import text_labels_of, with_text_labels

pytest.importorskip("tokenizers", reason="the extra 'texts' is not installed")

TOWERS = GOLDEN / "text_towers"
TEXTS = ("a cat", "An owl, at night", "the dog")
OPTIONS = ImportOptions()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(TOWERS / "clip", tmp_path / "clip")
    return tmp_path / "clip"


def rewrite(path: Path, **changes: object) -> None:
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**values, **changes}), "utf-8")


@pytest.mark.parametrize(
    ("kind", "task"),
    [("clip", Task.CLASSES), ("siglip", Task.LABELS), ("siglip2", Task.LABELS)],
)
def test_logits_are_those_of_transformers(kind: str, task: Task) -> None:
    folder = TOWERS / kind
    with np.load(folder / "expected.npz") as arrays:
        images, expected = arrays["images"], arrays["logits"]
    texts, found = text_labels_of(folder, TEXTS, OPTIONS)
    assert found is task
    network = with_text_labels(read_model(folder).network, texts, found)
    assert network.labels == TEXTS
    difference = np.abs(forward(network, images) - expected).max()
    assert difference <= TOLERANCE * np.ptp(expected)


def test_a_folder_becomes_a_model_of_its_classes(tmp_path: Path) -> None:
    output = tmp_path / "named.keras"
    arguments = ["labels", str(TOWERS / "clip"), "--classes", ",".join(("a cat", "the dog"))]
    result = CliRunner().invoke(main, [*arguments, "-o", str(output)])
    assert result.exit_code == 0, result.output
    read = read_model(output).network
    assert (read.labels, read.task) == (("a cat", "the dog"), Task.CLASSES)
    with np.load(TOWERS / "clip" / "expected.npz") as arrays:
        images, expected = arrays["images"], arrays["logits"][:, [0, 2]]
    np.testing.assert_allclose(forward(read, images), expected, atol=1e-4)


def test_of_several_templates_the_mean_direction_counts() -> None:
    def directions(*texts: str) -> np.ndarray:
        return text_labels_of(TOWERS / "clip", texts, OPTIONS)[0].embeddings

    templates = ("a photo of a {}", "the {}")
    labels, _ = text_labels_of(TOWERS / "clip", ("cat", "dog"), OPTIONS, templates=templates)
    assert labels.names == ("cat", "dog")
    cat = directions("a photo of a cat", "the cat").mean(axis=0)
    np.testing.assert_allclose(labels.embeddings[0], cat / np.linalg.norm(cat), atol=1e-6)


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_a_text_means_the_same_beside_others(kind: str) -> None:
    together, _ = text_labels_of(TOWERS / kind, TEXTS, OPTIONS)
    alone, _ = text_labels_of(TOWERS / kind, TEXTS[:1], OPTIONS)
    np.testing.assert_allclose(together.embeddings[:1], alone.embeddings, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "templates", "words"),
    [
        (("a cat " * 20,), (), "tokens, and the model takes 24"),
        (("cat", "cat"), (), "'cat' is there twice"),
        (("cat", ""), (), "a class has no name"),
        ((), (), "a class has no name"),
        (("cat",), ("a photo",), "needs one {}"),
        (("cat",), ("{} {}",), "needs one {}"),
    ],
)
def test_texts_that_say_nothing_are_refused(
    names: tuple[str, ...], templates: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words.replace("{", r"\{")):
        text_labels_of(TOWERS / "clip", names, OPTIONS, templates=templates)


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _garbled_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(b'{"model": \xff')


def _tokenizer_without_ends(folder: Path) -> None:
    rewrite(folder / "tokenizer.json", post_processor=None)


def _weights(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        arrays = load_file(folder / "model.safetensors")
        change(arrays)
        save_file(arrays, folder / "model.safetensors")

    return damage


def _shorter_vocabulary(arrays: dict[str, np.ndarray]) -> None:
    name = "text_model.embeddings.token_embedding.weight"
    arrays[name] = arrays[name][:20].copy()


def _one_weight_more(arrays: dict[str, np.ndarray]) -> None:
    arrays["text_model.encoder.layers.0.gate"] = np.ones(3, np.float32)


def _one_weight_less(arrays: dict[str, np.ndarray]) -> None:
    del arrays["text_model.final_layer_norm.bias"]


def _of_images_alone(folder: Path) -> None:
    rewrite(folder / "config.json", model_type="clip_vision_model")


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (_without_tokenizer, ModelError, "save it with transformers"),
        (_garbled_tokenizer, ModelError, "not a readable tokenizer"),
        (_tokenizer_without_ends, ModelError, "does not end texts with token"),
        (_weights(_shorter_vocabulary), ModelError, "and the model knows 20"),
        (_weights(_one_weight_more), NotAViTError, "layers.0.gate"),
        (_weights(_one_weight_less), ModelError, "lacks the weights"),
        (_of_images_alone, ModelError, "has no text tower"),
    ],
)
def test_a_text_tower_that_cannot_be_read_is_refused(
    damage: Callable[[Path], None], kind: type[VitedgeError], words: str, clip: Path
) -> None:
    damage(clip)
    with pytest.raises(kind, match=words):
        text_labels_of(clip, TEXTS, OPTIONS)


def test_gemmas_tokenizer_changes_no_text(tmp_path: Path) -> None:
    """SigLIP 2 of a fixed resolution calls itself a ``siglip``, with that tokenizer."""
    folder = tmp_path / "siglip"
    shutil.copytree(TOWERS / "siglip", folder)

    def embedded() -> tuple[np.ndarray, np.ndarray]:
        plain, spelt = embed_texts(folder, ["a cat", "A. cat!"], ImportOptions()).embeddings
        return plain, spelt

    np.testing.assert_array_equal(*embedded())
    rewrite(folder / "tokenizer_config.json", tokenizer_class="GemmaTokenizer")
    plain, spelt = embedded()
    assert np.abs(plain - spelt).max() > 1e-3


def test_padding_that_a_config_names_must_be_known(tmp_path: Path) -> None:
    folder = tmp_path / "siglip2"
    shutil.copytree(TOWERS / "siglip2", folder)
    rewrite(folder / "tokenizer_config.json", pad_token="<nothing>")
    with pytest.raises(ModelError, match="pad_token '<nothing>'"):
        text_labels_of(folder, TEXTS, OPTIONS)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--classes", "a cat", "--text-embeddings", "texts.npz", "--names", "a cat"],
        ["--names", "a cat"],
        ["--text-embeddings", "texts.npz"],
        ["--text-embeddings", "texts.npz", "--names", "a", "--template", "the {}"],
    ],
    ids=" ".join,
)
def test_texts_are_given_in_one_way(options: list[str], tmp_path: Path) -> None:
    arguments = ["labels", str(TOWERS / "clip"), "-o", str(tmp_path / "named.keras"), *options]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(VitedgeError, match="tokenizers") as caught:
        text_labels_of(TOWERS / "clip", TEXTS, OPTIONS)
    assert "vitedge[texts]" in str(caught.value)
