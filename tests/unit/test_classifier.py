"""The wrapper that apps embed."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitedge
from tests.support.bench_fakes import FakeRuntime
from tests.support.bench_fixtures import another_runtime
from vitedge.bench import builtin
from vitedge.errors import DataError, ModelError, UsageError
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import Sample
from vitedge.runtimes import runtimes
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

__all__ = ["another_runtime"]  # a fixture

ARTIFACTS = builtin.artifacts()


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(builtin.images().samples[::20])


@pytest.fixture(params=ARTIFACTS, ids=lambda path: path.suffix)
def classifier(request: pytest.FixtureRequest) -> Iterator[vitedge.Classifier]:
    with vitedge.load(request.param) as loaded:
        yield loaded


def test_it_names_digits(classifier: vitedge.Classifier, samples: list[Sample]) -> None:
    right = [classifier.classify(each.image)[0][0] == str(each.label) for each in samples]
    # 98.6 % of all held-out digits; of these 18, at most one may be among the rest.
    assert sum(right) >= len(right) - 1


def test_an_installed_runtime_is_used_when_it_is_asked_for_and_not_before(
    another_runtime: FakeRuntime,
) -> None:
    (path,) = (each for each in ARTIFACTS if each.suffix == ".onnx")
    assert another_runtime in runtimes()
    with vitedge.load(path) as loaded:
        assert loaded.target == Target("onnx", "cpu")
    with pytest.raises(ModelError, match="takes"):  # its artefacts are of another size
        vitedge.load(path, "another-cpu")


def test_probabilities_are_ranked_and_sum_to_one(
    classifier: vitedge.Classifier, samples: list[Sample]
) -> None:
    ranking = classifier.classify(samples[0].image, top=99)
    probabilities = [probability for _, probability in ranking]
    assert sorted(label for label, _ in ranking) == [*"0123456789"]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)  # ten float32 terms


def test_batches_and_streams_say_the_same_as_single_images(
    classifier: vitedge.Classifier, samples: list[Sample]
) -> None:
    images = [each.image for each in samples]
    alone = [classifier.classify(image) for image in images]
    assert classifier.classify_batch(images) == alone
    assert [each.ranking for each in classifier.stream(iter(images))] == alone
    assert classifier.classify_batch([]) == []
    assert classifier.classify_batch(np.stack(images)) == alone


def test_one_image_where_a_list_is_wanted_is_refused(
    classifier: vitedge.Classifier, samples: list[Sample]
) -> None:
    for image in ("digit.png", b"digit", Path("digit.png"), samples[0].image):
        with pytest.raises(DataError, match="a list, and this is one"):
            classifier.classify_batch(image)


def test_every_form_of_an_image_gives_the_same_answer(
    classifier: vitedge.Classifier, samples: list[Sample], tmp_path: Path
) -> None:
    pixels = np.asarray(samples[3].image)
    picture = Image.fromarray(pixels.squeeze())
    path = tmp_path / "digit.png"
    picture.save(path)
    forms = [pixels, pixels.squeeze(), picture, picture.convert("RGB"), path, path.read_bytes()]
    answers = [classifier.classify(form) for form in [*forms, str(path)]]
    assert all(answer == answers[0] for answer in answers)


def test_threads_may_share_it(classifier: vitedge.Classifier, samples: list[Sample]) -> None:
    expected = classifier.logits([each.image for each in samples])
    found = np.zeros_like(expected)

    def work(start: int) -> None:
        for index in range(start, len(samples), 4):
            found[index] = classifier.logits([samples[index].image])[0]

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(found, expected)


def test_a_closed_classifier_says_so(classifier: vitedge.Classifier, samples: list[Sample]) -> None:
    classifier.close()
    classifier.close()
    with pytest.raises(ModelError, match="closed"):
        classifier.classify(samples[0].image)


def test_a_failing_image_in_a_stream_is_named(classifier: vitedge.Classifier) -> None:
    with pytest.raises(DataError, match="absent"):
        list(classifier.stream(["absent.png"]))


@pytest.mark.parametrize(
    "image",
    [None, io.BytesIO(b"x"), np.zeros((0, 0), np.uint8), Image.new("L", (0, 0)), b""],
    ids=["nothing", "stream", "empty array", "empty picture", "no bytes"],
)
def test_what_is_no_image_is_a_data_error_also_within_a_stream(
    classifier: vitedge.Classifier, image: object
) -> None:
    with pytest.raises(DataError):
        classifier.classify(image)  # type: ignore[arg-type]
    with pytest.raises(DataError):
        list(classifier.stream([image]))  # type: ignore[list-item]


def test_sixteen_bits_mean_the_same_as_eight(
    classifier: vitedge.Classifier, samples: list[Sample], tmp_path: Path
) -> None:
    pixels = np.asarray(samples[3].image).squeeze()
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "wide.png")
    assert classifier.classify(tmp_path / "wide.png") == classifier.classify(pixels)


def test_a_hair_of_a_picture_is_refused_not_resized_to_gigabytes() -> None:
    preprocessing = Preprocessing((224, 224), resize=248)
    with pytest.raises(DataError, match="too long and thin"):
        preprocessing(Image.new("RGB", (1, 60000)))


def test_labels_must_be_as_many_as_classes() -> None:
    with pytest.raises(ModelError, match="2 labels for 10 classes"):
        vitedge.load(ARTIFACTS[0], labels=["a", "b"])


def test_without_labels_classes_are_called_by_their_index(samples: list[Sample]) -> None:
    with vitedge.load(ARTIFACTS[0], labels=()) as classifier:
        assert classifier.classify(samples[0].image)[0][0] in "0123456789"


class Silent:
    """A session of an accelerator that fails without saying so."""

    input_shape = (1, 8, 8, 1)
    closed = False

    def __init__(self, value: float) -> None:
        self._logits = np.full((1, 10), value, np.float32)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape == self.input_shape
        return self._logits

    def placement(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf], ids=str)
def test_an_accelerator_that_computes_nothing_is_not_believed(value: float) -> None:
    preprocessing = Preprocessing((8, 8), channels=1, mean=(0.5,), std=(0.5,))
    session = Silent(value)
    with (
        vitedge.Classifier(session, preprocessing, (), Target("tflite", "gpu")) as classifier,
        pytest.raises(ModelError, match="tflite-gpu computes nothing"),
    ):
        classifier.warm_up()
    assert session.closed


def test_info_says_what_runs_where(classifier: vitedge.Classifier) -> None:
    info = classifier.info
    assert info.target == classifier.target
    assert info.file in ARTIFACTS
    assert info.classes == 10
    assert info.input_shape[1:] == (16, 16, 1)
    assert info.precision is Precision.INT8
    assert info.threads is None
    assert any(character.isdigit() for character in info.engine)
    placement = classifier.placement()
    assert placement is not None
    assert placement.on_device == placement.total > 0


def test_an_artefact_without_features_says_how_to_get_them(
    classifier: vitedge.Classifier, samples: list[Sample]
) -> None:
    with pytest.raises(ModelError, match="gives no features; convert the model again"):
        classifier.embed([samples[0].image])


def test_a_target_without_features_says_so(samples: list[Sample]) -> None:
    preprocessing = Preprocessing((8, 8), channels=1, mean=(0.5,), std=(0.5,))
    with (
        vitedge.Classifier(Silent(1.0), preprocessing, (), Target("tflite", "gpu")) as classifier,
        pytest.raises(ModelError, match="tflite-gpu gives no features"),
    ):
        classifier.embed([samples[0].image])


def test_threads_are_counted_from_one() -> None:
    with pytest.raises(UsageError, match="threads"):
        vitedge.load(ARTIFACTS[0], threads=0)


def test_float_arrays_are_refused_not_guessed(classifier: vitedge.Classifier) -> None:
    with pytest.raises(DataError, match="uint8"):
        classifier.classify(np.zeros((8, 8), np.float32))  # type: ignore[arg-type]


def test_the_target_must_read_the_format() -> None:
    with pytest.raises(UsageError, match="openvino-cpu"):
        vitedge.load(ARTIFACTS[0], "openvino-cpu" if ARTIFACTS[0].suffix != ".xml" else "onnx-cpu")


def test_it_knows_where_it_came_from(classifier: vitedge.Classifier) -> None:
    assert classifier.metadata is not None
    assert classifier.metadata.source.name == "digits.keras"
    assert classifier.target.device == "cpu"


def test_a_foreign_file_needs_its_preprocessing(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "foreign.onnx"
    model = onnx.load(next(each for each in ARTIFACTS if each.suffix == ".onnx"))
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ModelError, match="preprocessing"):
        vitedge.load(path)
    known = builtin.images().samples[0]
    with vitedge.load(ARTIFACTS[0]) as ours:
        preprocessing = ours.preprocessing
    with vitedge.load(path, preprocessing=preprocessing, labels="ABCDEFGHIJ") as foreign:
        assert foreign.classify(known.image)[0][0] in "ABCDEFGHIJ"
