"""From a model file to published artefacts, and everything that can go wrong on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import Parity, files_of, read_metadata, sha256_of
from vitedge.converters.tools import converter_for
from vitedge.errors import ConversionError, DataError, ModelError, ParityError, UsageError
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import Sample
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.network import Network, with_operators
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import import_model, write_keras
from vitedge.pipeline.verified_write import artifact_path, check_parity
from vitedge.rewrite import MEASURED, PREFIX_APART, rewrites
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision, all_precisions


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network(5)


@pytest.fixture(scope="module")
def model(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    write_keras(network, path)
    return path


def images(network: Network, n: int = 8) -> ImageSet:
    pixels = random_images(network, n, seed=4)
    return ImageSet("noise", [Sample(str(i), image, None) for i, image in enumerate(pixels)])


def names_in(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


FLOAT = (Precision.FP32, Precision.FP16)


def test_an_artefact_is_no_source(model: Path, tmp_path: Path) -> None:
    options = ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path)
    (written,) = convert(model, options)
    with pytest.raises(ModelError, match=r"an artefact that vitedge made; .*'model\.keras'"):
        convert(written.path, options)


def test_nine_artefacts_come_with_their_whole_story(
    network: Network, model: Path, tmp_path: Path
) -> None:
    written = convert(
        model,
        ConvertOptions(precisions=(*FLOAT, Precision.INT8), output=tmp_path),
        calibration=images(network),
    )
    assert len(written) == 9
    for each in written:
        metadata = read_metadata(each.path)
        assert metadata == each.metadata
        assert metadata.source.sha256 == sha256_of(model)
        assert metadata.labels == network.labels
        assert metadata.parity is not None
        assert (metadata.calibration is None) == (metadata.precision in FLOAT)
        if metadata.calibration is not None:
            assert (metadata.calibration.kind, metadata.calibration.n) == ("images", 8)
        assert metadata.rewrites
        assert metadata.parameters == network.parameters
    expected = {part.name for each in written for part in files_of(each.path)}
    assert names_in(tmp_path) == expected


def test_without_images_synthetic_ones_are_used_and_named(model: Path, tmp_path: Path) -> None:
    (written,) = convert(model, ConvertOptions(formats=(Format.OPENVINO,), output=tmp_path))
    assert written.metadata.calibration is not None
    assert written.metadata.calibration.kind == "synthetic"


@pytest.mark.parametrize("name", [each.name for each in rewrites() if each.default])
def test_each_rewrite_can_be_left_out_and_the_artefact_says_so(
    name: str, model: Path, tmp_path: Path
) -> None:
    options = ConvertOptions(
        (Format.ONNX,), (Precision.FP32, Precision.INT8), tmp_path, without=(name,)
    )
    for written in convert(model, options):
        assert name not in written.metadata.rewrites
        assert ("drop-key-bias" in written.metadata.rewrites) == (name != "drop-key-bias")


@pytest.mark.parametrize("name", MEASURED)
def test_what_the_quantizer_moves_can_be_left_out_and_the_artefact_says_so(
    name: str, network: Network, model: Path, tmp_path: Path
) -> None:
    import onnx

    graphs = []
    for without in ((), (name,)):
        options = ConvertOptions(
            (Format.ONNX,), (Precision.INT8_STATIC,), tmp_path, without=without, force=True
        )
        (written,) = convert(model, options, calibration=images(network))
        assert written.metadata.quantization.get("left out") == (name if without else None)
        graphs.append(onnx.load(str(written.path)).graph.SerializeToString())
    # Random queries are not far from balanced, and random tokens outshine no others.
    assert (graphs[0] != graphs[1]) == (name not in ("balance-queries", PREFIX_APART))


@pytest.mark.parametrize("without", [(), ("centre-residual",)])
def test_rewrites_of_one_format_are_its_own(
    model: Path, tmp_path: Path, without: tuple[str, ...]
) -> None:
    options = ConvertOptions(
        formats=(Format.TFLITE, Format.ONNX),
        precisions=(Precision.FP32, Precision.INT8, Precision.INT8_STATIC),
        output=tmp_path,
        without=without,
    )
    for each in convert(model, options):
        metadata = each.metadata
        expected = (
            not without
            and metadata.format is Format.TFLITE
            and metadata.precision is not Precision.INT8_STATIC
        )
        assert ("centre-residual" in metadata.rewrites) == expected


def test_nothing_is_overwritten_unasked_and_nothing_is_begun(model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.int8.xml").write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        convert(model, ConvertOptions(output=tmp_path))
    assert names_in(tmp_path) == {"model.int8.xml"}
    options = ConvertOptions(formats=(Format.OPENVINO,), output=tmp_path, force=True)
    convert(model, options)
    assert names_in(tmp_path) == {"model.int8.xml", "model.int8.bin"}


def test_an_artefact_that_computes_something_else_is_not_published(
    network: Network, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter = converter_for(Format.ONNX, Precision.FP32)
    right = type(converter).convert

    def wrong(self, network, recipe, *, batch=1):  # type: ignore[no-untyped-def]
        head = network.logits.operator
        bent = replace(head, bias=head.bias[::-1].copy())
        return right(self, with_operators(network, {network.logits: bent}), recipe, batch=batch)

    monkeypatch.setattr(type(converter), "convert", wrong)
    options = ConvertOptions(formats=(Format.ONNX,), precisions=(Precision.FP32,), output=tmp_path)
    with pytest.raises(ParityError, match="computes something else"):
        convert(model, options)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("precision", all_precisions())
def test_the_tolerance_of_every_precision_refuses_shuffled_logits(precision: Precision) -> None:
    network = random_network()
    reference = forward(network, random_images(network, 4))
    with pytest.raises(ParityError):
        check_parity(Parity.of(reference[:, ::-1], reference), precision, "model")


def test_nan_is_refused() -> None:
    reference = np.ones((2, 3), np.float32)
    logits = np.full_like(reference, np.nan)
    with pytest.raises(ParityError):
        check_parity(Parity.of(logits, reference), Precision.INT8, "model")


def test_an_empty_calibration_set_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        convert(model, ConvertOptions(output=tmp_path), calibration=ImageSet("empty", []))
    assert names_in(tmp_path) == set()


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model '.*absent\.keras'"):
        convert(tmp_path / "absent.keras", ConvertOptions(output=tmp_path / "out"))
    assert names_in(tmp_path) == set()


def test_a_truncated_model_is_one_clear_line(model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.keras"
    cut.write_bytes(model.read_bytes()[:5000])
    with pytest.raises(ModelError) as caught:
        convert(cut, ConvertOptions(output=tmp_path / "out"))
    assert "cut.keras" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_no_artefact(model: Path, tmp_path: Path) -> None:
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from vitedge.pipeline.convert import ConvertOptions, convert\n"
        "from vitedge.errors import VitedgeError\n"
        "from vitedge.targets.precisions import Precision\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "options = ConvertOptions(precisions=(Precision.FP32,), output=Path(sys.argv[2]))\n"
        "try: convert(Path(sys.argv[1]), options)\n"
        "except VitedgeError as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", program, model, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot write into" in done.stdout
    assert done.stdout.count("\n") == 1
    assert names_in(tmp_path) == set()


def test_a_killed_conversion_leaves_nothing_half_written(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vitedge", "convert", "--fp32", "--int8", "-o", tmp_path]
    process = subprocess.Popen([*command, model], stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(tmp_path.glob(".vitedge-*/*")):
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for name in names_in(tmp_path):
        # What was published before the kill is whole; the rest lies in the hidden folder.
        assert (
            name.startswith(".vitedge-")
            or name.endswith(".bin")
            or (read_metadata(tmp_path / name) is not None)
        )
    convert(
        model,
        ConvertOptions(
            formats=(Format.ONNX,), precisions=(Precision.FP32,), output=tmp_path, force=True
        ),
    )
    assert not list(tmp_path.glob(".vitedge-*"))


def test_an_imported_model_is_reloaded_by_keras_alone(
    network: Network, model: Path, tmp_path: Path
) -> None:
    program = (
        "import sys, numpy as np, vitedge, keras\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "print(float(np.abs(np.asarray(model(np.load(sys.argv[2])))).sum()))\n"
    )
    pixels = random_images(network, 2).astype(np.float32)
    np.save(tmp_path / "pixels.npy", pixels)
    command = [sys.executable, "-c", program, model, tmp_path / "pixels.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # Sums of some twenty logits of size 1, in another order.
    assert float(done.stdout) == pytest.approx(np.abs(forward(network, pixels)).sum(), rel=1e-5)


def test_import_writes_what_it_read(network: Network, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "copy.keras"
    import_model(model, output, ImportOptions(labels=tuple("ABCDEFGHIJ")))
    again = read_model(output).network
    assert again.labels == tuple("ABCDEFGHIJ")
    kept, written = dict(network.named_arrays()), dict(again.named_arrays())
    assert kept.keys() == written.keys()
    assert all(np.array_equal(array, written[name]) for name, array in kept.items())


def test_import_only_writes_keras_files(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.keras"):
        import_model(model, tmp_path / "model.h5", ImportOptions())


def test_a_wrong_number_of_labels_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="3 labels"):
        import_model(model, tmp_path / "m.keras", ImportOptions(labels=("a", "b", "c")))
    assert names_in(tmp_path) == set()


def test_the_batch_is_static_and_as_asked(model: Path, tmp_path: Path) -> None:
    options = ConvertOptions(
        formats=all_formats(), precisions=(Precision.FP32,), output=tmp_path, batch=3
    )
    from vitedge.classifier import load

    for written in convert(model, options):
        with load(written.path) as classifier:
            logits = classifier.logits(list(random_images(random_network(5), 4)))
        assert logits.shape == (4, 10)


def test_a_format_without_a_precision_is_refused() -> None:
    with pytest.raises(ConversionError, match="has no"):
        converter_for(Format.OPENVINO, Precision.W8A16)


def test_artefacts_are_named_after_the_model() -> None:
    path = artifact_path(Path("out"), Path("my.model.keras"), Precision.INT8, Format.OPENVINO)
    assert path == Path("out/my.model.int8.xml")
