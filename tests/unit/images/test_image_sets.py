"""Sets of images in every form they come in."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.cifar_files import CIFAR_10, write_batch, write_cifar_10
from vitedge.errors import DataError
from vitedge.images.cifar import Part
from vitedge.images.image_sets import ImageSet, digits, open_images
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import ArraySamples
from vitedge.images.synthetic import synthetic_images

LABELS = ("cat", "dog", "owl")


def write_image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (value, value, value)).save(path)


def labels_by_name(images: ImageSet) -> dict[str, int | None]:
    return {sample.name: sample.label for sample in images.samples}


class TestClassFolders:
    def test_are_numbered_in_the_order_of_their_names(self, tmp_path):
        write_image(tmp_path / "owl" / "1.png")
        write_image(tmp_path / "cat" / "deep" / "2.jpg")
        images = open_images(tmp_path)
        assert images.class_names == ("cat", "owl")
        assert labels_by_name(images) == {"cat/deep/2.jpg": 0, "owl/1.png": 1}

    def test_with_numbers_for_names_are_ordered_as_numbers(self, tmp_path):
        for name in ("10", "9"):
            write_image(tmp_path / name / "a.png")
        assert open_images(tmp_path).class_names == ("9", "10")

    def test_take_the_models_index_by_name_in_any_case(self, tmp_path):
        write_image(tmp_path / "Owl" / "a.png")
        images = open_images(tmp_path, LABELS)
        assert images.class_names == LABELS
        assert labels_by_name(images) == {"Owl/a.png": 2}

    def test_take_the_models_index_by_number(self, tmp_path):
        write_image(tmp_path / "1" / "a.png")
        assert labels_by_name(open_images(tmp_path, LABELS)) == {"1/a.png": 1}

    def test_prefer_a_models_name_over_an_index(self, tmp_path):
        write_image(tmp_path / "1" / "a.png")
        assert labels_by_name(open_images(tmp_path, ("1", "0"))) == {"1/a.png": 0}

    @pytest.mark.parametrize("name", ["wolf", "3"])
    def test_that_the_model_lacks_are_an_error_that_shows_both(self, tmp_path, name):
        write_image(tmp_path / name / "a.png")
        with pytest.raises(DataError, match=f"class '{name}'.*3: 'cat', 'dog', 'owl' .*'{name}'"):
            open_images(tmp_path, LABELS)

    def test_beside_loose_images_are_ambiguous(self, tmp_path):
        write_image(tmp_path / "cat" / "a.png")
        write_image(tmp_path / "b.png")
        with pytest.raises(DataError, match=r"both images \('b.png'\) and folders"):
            open_images(tmp_path)

    def test_ignore_files_that_are_no_images(self, tmp_path):
        write_image(tmp_path / "cat" / "a.png")
        (tmp_path / "cat" / "notes.txt").write_text("x")
        (tmp_path / "cat" / "._a.png").write_text("x")
        (tmp_path / "__MACOSX").mkdir()
        assert [sample.name for sample in open_images(tmp_path).samples] == ["cat/a.png"]


class TestLabelFile:
    def write(self, folder: Path, text: str) -> None:
        write_image(folder / "a.png")
        write_image(folder / "b.png")
        (folder / "labels.csv").write_text(text, encoding="utf-8")

    @pytest.mark.parametrize("named", ["", "labels.csv"], ids=["folder", "file"])
    def test_is_read_from_its_folder_or_by_its_name(self, tmp_path, named):
        self.write(tmp_path, "file,label\na.png,owl\nb.png,cat\n")
        images = open_images(tmp_path / named)
        assert labels_by_name(images) == {"a.png": 1, "b.png": 0}
        assert images.class_names == ("cat", "owl")

    def test_with_indices_alone_names_no_classes(self, tmp_path):
        self.write(tmp_path, "\ufefffile,label,author\na.png,7,x\nb.png,2,y\n")
        images = open_images(tmp_path)
        assert labels_by_name(images) == {"a.png": 7, "b.png": 2}
        assert images.class_names == ()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a.png,1\n", "the first line of .* must be: file,label"),
            ("", "the first line of .* must be: file,label"),
            ("file,label\na.png\n", "line 2 of .* lacks a file or a label"),
            ("file,label\na.png,\n", "line 2 of .* lacks a file or a label"),
            ("file,label\na.png,1\nc.png,1\n", "line 3 of .* names 'c.png', which is not there"),
            ("file,label\n", "holds no images"),
            ("file,label\na.png,wolf\n", "class 'wolf' .* is not one of the model's 3"),
        ],
        ids=["no header", "empty", "short", "blank", "no such file", "no rows", "unknown class"],
    )
    def test_that_makes_no_sense_is_one_clear_line(self, tmp_path, text, message):
        self.write(tmp_path, text)
        with pytest.raises(DataError, match=message) as caught:
            open_images(tmp_path, LABELS)
        assert "\n" not in str(caught.value)

    def test_in_another_encoding_is_an_error(self, tmp_path):
        (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe,1\n")
        with pytest.raises(DataError, match="not a readable CSV file"):
            open_images(tmp_path)


class TestUnlabelledImages:
    def test_have_no_labels(self, tmp_path):
        write_image(tmp_path / "b.png")
        write_image(tmp_path / "a.JPG")
        images = open_images(tmp_path, LABELS)
        assert labels_by_name(images) == {"a.JPG": None, "b.png": None}
        assert images.class_names == LABELS

    def test_may_be_one_file(self, tmp_path):
        write_image(tmp_path / "a.png")
        assert labels_by_name(open_images(tmp_path / "a.png")) == {"a.png": None}

    def test_are_not_decoded_when_the_set_is_opened(self, tmp_path):
        (tmp_path / "broken.jpg").write_text("no image")
        images = open_images(tmp_path)
        with pytest.raises(DataError, match=r"broken\.jpg"):
            Preprocessing(size=(4, 4))(images.samples[0].image)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "there are no images"),
        ("notes.txt", "not a set of images"),
        ("empty", "holds no"),
    ],
)
def test_what_holds_no_images_is_an_error(tmp_path, name, message):
    (tmp_path / "empty" / "also empty").mkdir(parents=True)
    (tmp_path / "empty" / "notes.md").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=message):
        open_images(tmp_path / name)


class TestArrays:
    pixels = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_come_back_as_they_were(self, tmp_path, save, order):
        path = tmp_path / "set.npz"
        save(
            path,
            images=np.asarray(self.pixels, order=order),
            labels=np.array([[2], [0], [1]]),
            classes=np.array(LABELS),
        )
        images = open_images(path)
        assert images.class_names == LABELS
        assert [sample.label for sample in images.samples] == [2, 0, 1]
        for sample, expected in zip(images.samples, self.pixels, strict=True):
            np.testing.assert_array_equal(sample.image, expected)

    def test_that_are_not_compressed_stay_on_disk(self, tmp_path):
        np.savez(tmp_path / "set.npz", images=self.pixels)
        samples = open_images(tmp_path / "set.npz").samples
        assert isinstance(samples, ArraySamples)
        assert isinstance(samples._pixels, np.memmap)
        assert samples[-1].label is None

    def test_may_be_sliced(self):
        part = ArraySamples(self.pixels, np.array([2, 0, 1]))[1:]
        assert isinstance(part, ArraySamples)
        assert [sample.label for sample in part] == [0, 1]

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"labels": np.zeros(3, int)}, "no array 'images'"),
            ({"images": pixels.astype(np.float32)}, "must be uint8 .* not float32"),
            ({"images": pixels[0, 0]}, r"must be uint8 .* \(5, 3\)"),
            ({"images": pixels, "labels": np.zeros(2, int)}, "2 labels for 3 images"),
            ({"images": pixels, "labels": np.zeros(3)}, "must be integers, not float64"),
            ({"images": pixels, "labels": np.array([0, 1, 3])}, "0 to 3, .* 3 classes"),
            ({"images": pixels, "labels": np.array([0, 1, -1])}, "-1 to 1"),
            ({"images": pixels[:0]}, "holds no images"),
            ({"images": np.array([object()] * 3)}, "not an .npz file"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_that_make_no_sense_are_one_clear_line(self, tmp_path, arrays, message):
        np.savez(tmp_path / "set.npz", **arrays)
        with pytest.raises(DataError, match=message):
            open_images(tmp_path / "set.npz", LABELS)

    def test_that_are_truncated_are_an_error(self, tmp_path):
        np.savez(tmp_path / "set.npz", images=self.pixels)
        whole = (tmp_path / "set.npz").read_bytes()
        (tmp_path / "cut.npz").write_bytes(whole[:-30])
        with pytest.raises(DataError, match="truncated"):
            open_images(tmp_path / "cut.npz")

    def test_are_never_unpickled(self, tmp_path):
        (tmp_path / "set.npz").write_bytes(pickle.dumps(self.pixels))
        with pytest.raises(DataError, match=r"not an \.npz file"):
            open_images(tmp_path / "set.npz")


class TestDigits:
    def test_are_split_by_class_and_share_no_image(self):
        training, held_out = digits()
        assert len(training.samples) + len(held_out.samples) == 1797
        counts = np.bincount([sample.label for sample in held_out.samples])
        # A fifth of each class of 174 to 183 images.
        assert counts.min() >= 35
        assert counts.max() <= 37
        pixels = [{sample.image.tobytes() for sample in part.samples} for part in digits()]
        assert len(pixels[0] & pixels[1]) == 0

    def test_are_grey_pixels_of_the_full_range(self):
        pixels = np.stack([sample.image for sample in digits()[0].samples])
        assert pixels.shape[1:] == (8, 8)
        assert pixels.dtype == np.uint8
        assert (pixels.min(), pixels.max()) == (0, 255)

    def test_are_the_same_at_every_call(self):
        first, second = (digits()[1].samples[7] for _ in range(2))
        np.testing.assert_array_equal(first.image, second.image)


class TestSyntheticImages:
    preprocessing = Preprocessing(size=(32, 48))

    def pixels(self, n: int = 200, seed: int = 0) -> np.ndarray:
        images = synthetic_images(self.preprocessing, n, seed)
        return np.stack([sample.image for sample in images.samples])

    def test_have_the_mean_and_spread_of_the_preprocessing(self):
        scaled = self.pixels() / 255
        # Brightness varies by image, so 200 images know the mean to about 0.02; clipping to
        # 0..255 costs up to 5 % of the spread.
        np.testing.assert_allclose(scaled.mean((0, 1, 2)), self.preprocessing.mean, atol=0.04)
        np.testing.assert_allclose(scaled.std((0, 1, 2)), self.preprocessing.std, rtol=0.1)

    def test_have_correlated_channels(self):
        correlation = np.corrcoef(self.pixels().reshape(-1, 3).T)
        # 0.855 by construction; the sample of 200 images varies by about 0.02.
        np.testing.assert_allclose(correlation[np.triu_indices(3, 1)], 0.855, atol=0.06)

    def test_lose_amplitude_with_frequency(self):
        spectrum = np.abs(np.fft.fft(self.pixels()[..., 0], axis=2)).mean((0, 1))
        # Along one axis, a 1/frequency amplitude in the plane falls between f^-0.5 and f^-1.
        slope = np.polyfit(np.log(np.arange(2, 16)), np.log(spectrum[2:16]), 1)[0]
        assert -1.1 < slope < -0.4

    def test_follow_their_seed(self):
        np.testing.assert_array_equal(self.pixels(2, seed=3), self.pixels(2, seed=3))
        assert (self.pixels(2, seed=3) != self.pixels(2, seed=4)).any()

    def test_may_be_grey(self):
        grey = Preprocessing(size=(8, 8), channels=1, mean=(0.3,), std=(0.4,))
        assert synthetic_images(grey, 2, 0).samples[0].image.shape == (8, 8, 1)


def test_the_shared_photos_are_read_by_their_label_file(shared_data):
    images = open_images(shared_data / "imagenet_photos" / "validation")
    assert len(images.samples) == 500
    assert all(sample.label is not None for sample in images.samples)


class TestCifar:
    def test_folder_stands_for_the_part_that_was_asked_for(self, tmp_path):
        written = write_cifar_10(tmp_path / "cifar-10-batches-bin")
        held_out = open_images(tmp_path / "cifar-10-batches-bin")
        assert held_out.class_names == CIFAR_10
        assert [sample.label for sample in held_out.samples] == [9, 3]
        training = open_images(tmp_path / "cifar-10-batches-bin", part=Part.TRAINING)
        assert [sample.label for sample in training.samples] == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
        assert [sample.name for sample in training.samples] == [f"image {i}" for i in range(10)]
        np.testing.assert_array_equal(training.samples[7].image, written[3][1])
        assert training.samples[-1].label == 0
        assert [sample.label for sample in training.samples[2:5]] == [2, 0, 3]

    def test_classes_are_the_models_by_name(self, tmp_path):
        write_cifar_10(tmp_path / "cifar")
        images = open_images(tmp_path / "cifar" / "test_batch.bin", ("Cat", "Truck", "Owl"))
        assert [sample.label for sample in images.samples] == [1, 0]
        with pytest.raises(DataError, match=r"class 'truck'.*2: 'cat', 'owl' .*'cat', 'truck'"):
            open_images(tmp_path / "cifar", ("cat", "owl"))

    def test_of_a_hundred_classes_has_the_fine_ones(self, tmp_path):
        names = [f"class {index}" for index in range(100)]
        pixels = write_batch(tmp_path / "test.bin", [99, 7], seed=0, coarse=True)
        write_batch(tmp_path / "train.bin", [1], seed=1, coarse=True)
        (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
        images = open_images(tmp_path)
        assert [sample.label for sample in images.samples] == [99, 7]
        assert images.class_names == tuple(names)
        np.testing.assert_array_equal(images.samples[0].image, pixels[0])

    def test_batch_alone_has_indices_for_names(self, tmp_path):
        write_batch(tmp_path / "some.bin", [4], seed=0)
        assert open_images(tmp_path / "some.bin").class_names == tuple("0123456789")

    @pytest.mark.parametrize("named", ["", "test_batch"], ids=["folder", "file"])
    def test_pickles_are_refused_unread_and_the_binary_version_is_named(self, tmp_path, named):
        for name in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
            (tmp_path / name).write_bytes(pickle.dumps({b"data": [0]}, protocol=2))
        with pytest.raises(DataError, match=r"can run any code.*cifar-10-binary\.tar\.gz"):
            open_images(tmp_path / named)

    def test_that_is_truncated_is_one_clear_line(self, tmp_path):
        write_cifar_10(tmp_path / "cifar")
        whole = (tmp_path / "cifar" / "test_batch.bin").read_bytes()
        (tmp_path / "cifar" / "test_batch.bin").write_bytes(whole[:-1])
        with pytest.raises(DataError, match="truncated or not a binary batch"):
            open_images(tmp_path / "cifar")
        (tmp_path / "cifar" / "test_batch.bin").unlink()
        with pytest.raises(DataError, match=r"lacks test_batch\.bin"):
            open_images(tmp_path / "cifar")


def test_an_archive_with_its_own_class_names_is_matched_to_the_models_by_name(tmp_path):
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    path = tmp_path / "set.npz"
    np.savez(path, images=pixels, labels=[0, 1, 1], classes=["owl", "cat"])
    assert [sample.label for sample in open_images(path, LABELS).samples] == [2, 0, 0]
    assert [sample.label for sample in open_images(path).samples] == [0, 1, 1]
    with pytest.raises(DataError, match=r"class 'owl'.*2: 'cat', 'dog' .*'cat', 'owl'"):
        open_images(path, LABELS[:2])
