"""Artefacts in Chromium: as targets of the bench, and as a site that works without a network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitedge
from tests.support.browsers import IN_A_BROWSER, NPM
from tests.support.chromium import Chromium
from tests.support.client_artifacts import SHARED, ForClients, made_once
from tests.support.models import random_network
from tests.support.target_artifacts import bench_small, small_artifact, small_images
from vitedge.bench.run import BenchOptions
from vitedge.browser.server import FileServer
from vitedge.errors import ModelError, UsageError
from vitedge.images.preprocess import Preprocessing
from vitedge.pick.choice import Budget
from vitedge.pick.run import PickRequest, pick
from vitedge.pipeline.convert import ConvertOptions
from vitedge.pipeline.for_targets import convert_for
from vitedge.pipeline.keras_model import write_keras
from vitedge.report.results import Status
from vitedge.runtimes import PreparingSession, Readiness, runtime_for
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target
from vitedge.website.write import write_site

pytestmark = IN_A_BROWSER

FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
SOFTWARE_GPU = (
    *("--enable-unsafe-webgpu", "--enable-features=Vulkan"),
    *("--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader"),
)
READY = "document.documentElement?.dataset.ready"
CLASSES = "[...document.querySelectorAll('#classes li span:first-of-type')].map(e => e.innerText)"
WIDTHS = [360, 800, 1280]


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITEDGE_NPM", str(NPM))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ForClients:
    return made_once("small", tmp_path_factory)


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        ("tflite-web", Precision.FP32),
        ("tflite-web", Precision.INT8),
        ("onnx-web", Precision.INT8),
        ("onnx-web", Precision.INT8_STATIC),
    ],
)
def test_the_bench_measures_in_a_page(
    target: str, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = small_artifact(tmp_path, runtime_for(Target.parse(target)).format, precision)
    row = bench_small(path, target)
    assert row.status is Status.OK, row.message
    assert row.vs_float is not None
    assert row.vs_float.agreement == 100
    assert row.latency_ms is not None
    assert row.latency_ms.n == 3
    assert row.latency_ms.min > 0
    assert row.peak_rss_mb is not None
    assert row.peak_rss_mb > 30  # the page's, whose engine alone takes ten
    assert not list(tmp_path.glob("vitedge-*")), "the browser's profile was left"
    assert row.preparation is not None
    assert row.preparation.n == len(small_images().samples)
    assert row.preparation.agreement == 100
    assert row.preparation.largest_difference == 0  # they come without loss
    if target == "onnx-web":
        assert row.placement is not None
        assert row.placement.on_device == row.placement.total > 20
    else:
        assert row.placed == "not told"


@pytest.mark.parametrize("target", ["tflite-web-gpu", "onnx-web-gpu"])
def test_software_in_place_of_a_gpu_shows_accuracy_and_no_time(target: str, tmp_path: Path) -> None:
    wanted = Target.parse(target)
    runtime = runtime_for(wanted)
    state = runtime.availability(wanted.device)
    if state.readiness is not Readiness.EMULATED:
        pytest.skip(f"nothing is emulated here: {state.detail}")
    row = bench_small(small_artifact(tmp_path, runtime.format, Precision.FP32), target)
    assert row.status is Status.OK, row.message
    assert row.vs_float is not None
    assert row.vs_float.agreement == 100
    assert row.latency_ms is None
    if target == "onnx-web-gpu":
        assert row.placement is not None
        assert row.placement.on_device == row.placement.total > 20


def test_what_the_gpu_cannot_run_whole_is_a_fallback_and_never_silent(tmp_path: Path) -> None:
    path = small_artifact(tmp_path, Format.ONNX, Precision.INT8)
    row = bench_small(path, "onnx-web-gpu")
    assert row.status is Status.FALLBACK
    assert "off the GPU: " in row.message
    assert "MatMulInteger" in row.message


@pytest.mark.parametrize("form", ["JPEG", "PNG", "turned"])
def test_a_page_has_the_pixels_that_pillow_has(form: str, made: ForClients, tmp_path: Path) -> None:
    preprocessing = Preprocessing((224, 224), resize=256)
    blocks = np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)
    picture = Image.fromarray(blocks).resize((400, 300), Image.Resampling.BICUBIC)
    exif = picture.getexif()
    exif[0x0112] = 6 if form == "turned" else 1  # lying on its side
    picture.save(tmp_path / "picture", "PNG" if form == "PNG" else "JPEG", quality=90, exif=exif)
    opened = runtime_for(Target("tflite", "web")).open(made.folder / "model.fp32.tflite", "web")
    with closing(opened) as session:
        assert isinstance(session, PreparingSession)
        found = session.prepare((tmp_path / "picture").read_bytes(), preprocessing)
        assert session.prepare(b"no picture", preprocessing) is None
    assert found is not None
    difference = np.abs(found.astype(int) - preprocessing(tmp_path / "picture"))
    # Decoders of JPEG round as they like; one that spread colours otherwise would differ more.
    assert difference.max() <= (0 if form == "PNG" else 4)
    assert difference.mean() < 0.5


def test_an_engine_refuses_in_one_line(tmp_path: Path) -> None:
    path = small_artifact(tmp_path, Format.TFLITE, Precision.INT8_STATIC)
    with pytest.raises(ModelError, match=r"LiteRT\.js cannot run .*") as caught:
        session = runtime_for(Target("tflite", "web")).open(path, "web")
        session.run(np.zeros(session.input_shape, np.uint8))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("model.fp32.tflite", "tflite-web"),
        ("model.int8.tflite", "tflite-web"),
        ("model.int8.onnx", "onnx-web"),
        ("hub/onnx/model.onnx", "onnx-web"),  # channels first
    ],
)
def test_a_page_names_the_classes_that_the_wrapper_names(
    made: ForClients, name: str, target: str
) -> None:
    with vitedge.load(made.folder / name, target) as model:
        found = model.logits(made.photos).argmax(axis=1)
    assert sum(np.equal(found, made.classes(name))) >= 19


def test_a_page_gives_features(made: ForClients) -> None:
    path = made.folder / "probabilities" / "model.fp32.tflite"
    with vitedge.load(path) as native, vitedge.load(path, "tflite-web") as page:
        expected, found = (model.embed(made.photos[:2]) for model in (native, page))
        scores = [model.logits(made.photos[:2]) for model in (native, page)]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(*scores, atol=1e-4)


def test_convert_makes_what_suits_a_browser(made: ForClients, tmp_path: Path) -> None:
    (written,) = convert_for(
        made.folder / "source.keras",
        [Target.parse("tflite-web")],
        ConvertOptions(output=tmp_path),
    )
    assert written.path.name == "source.int8.tflite-web.tflite"


def test_pick_chooses_among_what_it_measured_in_a_page(tmp_path: Path) -> None:
    network = random_network(3, image_size=(64, 64), patch_size=(16, 16), dim=48)
    write_keras(network, tmp_path / "source.keras")
    images = small_images()  # of the same size
    request = PickRequest(
        model=tmp_path / "source.keras",
        data=images,
        budget=Budget(max_drop=50),
        targets=(Target("tflite", "web"),),
        output=tmp_path / "picked",
        bench=BenchOptions(threads=1, runs=3),
    )
    picked = pick(request, reproduce=lambda variety: "")
    assert picked.choice.best is not None
    assert str(picked.choice.best.row.target) == "tflite-web"
    made = {row.precision for row in picked.report.rows}
    assert made == {Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT4}  # for CPUs


TRANSFORMERS_PAGE = b"""<!doctype html><script type="importmap">
{"imports": {"onnxruntime-web/webgpu": "/ort/ort.webgpu.min.mjs",
 "onnxruntime-common": "/common/index.js"}}
</script><script type="module">
import { env, pipeline } from "/transformers.web.min.js";
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = "/models/";
env.backends.onnx.wasm.wasmPaths = "/ort/";
globalThis.classify = async (dtype, photos) => {
  const classifier = await pipeline("image-classification", "hub", { dtype, device: "wasm" });
  const found = [];
  for (const photo of photos) found.push((await classifier(photo, { top_k: 1 }))[0].label);
  return found;
};
document.title = "ready";
</script>"""


def files_in(folder: Path, place: str) -> dict[str, bytes | Path]:
    found = (each for each in folder.rglob("*") if each.is_file())
    return {f"{place}/{each.relative_to(folder).as_posix()}": each for each in found}


@pytest.mark.parametrize(
    ("dtype", "file"), [("fp32", "model.onnx"), ("q8", "model_quantized.onnx")]
)
def test_transformers_js_classifies_in_a_page(
    made: ForClients, dtype: str, file: str, tmp_path: Path
) -> None:
    package = NPM / "node_modules" / "@huggingface" / "transformers"
    engine = package / "node_modules" / "onnxruntime-web" / "dist"  # its own version of it
    files: dict[str, bytes | Path] = {
        "index.html": TRANSFORMERS_PAGE,
        "transformers.web.min.js": package / "dist" / "transformers.web.min.js",
        **files_in(engine, "ort"),
        **files_in(NPM / "node_modules" / "onnxruntime-common" / "dist" / "esm", "common"),
        **files_in(made.folder / "hub", "models/hub"),
        **{f"photos/{photo.name}": photo for photo in made.photos},
    }
    with FileServer(files) as server, Chromium(tmp_path) as browser:
        browser.open_address(server.address)
        browser.wait("document.title === 'ready'")
        places = json.dumps([f"photos/{photo.name}" for photo in made.photos])
        found = browser.run(f"classify({json.dumps(dtype)}, {places})")
    expected = [made.labels[index] for index in made.classes(f"hub/onnx/{file}")]
    assert sum(np.equal(found, expected)) >= 19


@pytest.fixture(scope="module", params=["tflite", "onnx"])
def site(
    request: pytest.FixtureRequest, made: ForClients, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("site") / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITEDGE_NPM", str(NPM))
        write_site(made.folder / f"model.int8.{request.param}", folder)
        with pytest.raises(UsageError, match="--force"):
            write_site(made.folder / f"model.int8.{request.param}", folder)
    return folder


def served(site: Path) -> FileServer:
    """As a host of static files does it, which sends no headers that allow threads."""
    files = {each.relative_to(site).as_posix(): each for each in site.rglob("*") if each.is_file()}
    return FileServer(files, isolated=False)


@pytest.fixture(scope="module")
def page(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    profile = tmp_path_factory.mktemp("profile")
    with Chromium(profile, FAKE_CAMERA) as browser:
        with served(site) as server:
            browser.open(server.address, width=WIDTHS[0])
            browser.wait(READY)
        # From here on there is no network.
        browser.open_address(server.address)
        browser.wait(READY)
        yield browser


def choose(page: Chromium, photo: Path) -> None:
    page.ask("DOM.enable")
    document = page.ask("DOM.getDocument")["root"]["nodeId"]
    node = page.ask("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    page.ask("DOM.setFileInputFiles", files=[str(photo)], nodeId=node)
    page.wait(f"document.querySelector('#state').innerText.includes({json.dumps(photo.name)})")


def test_a_site_without_a_network_names_photos_as_the_wrapper_does(
    page: Chromium, site: Path, made: ForClients
) -> None:
    assert page.run("crossOriginIsolated"), "no threads"
    found = []
    for photo in made.photos:
        choose(page, photo)
        found.append(page.run(CLASSES)[0])
    expected = [made.labels[index] for index in made.classes(f"model.int8.{site.name}")]
    assert sum(np.equal(found, expected)) >= 19


def test_a_site_names_what_the_camera_sees(page: Chromium) -> None:
    page.run("document.querySelector('#classes').replaceChildren()")
    page.run("document.querySelector('#camera').click()")
    page.wait(f"{CLASSES}.length === 5")
    assert page.run("document.querySelector('#video').videoWidth") > 0
    page.run("document.querySelector('#camera').click()")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_site_is_no_wider_than_its_window(page: Chromium, width: int) -> None:
    page.ask(
        "Emulation.setDeviceMetricsOverride",
        **{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    assert page.run("document.documentElement.scrollWidth") <= width


def test_a_site_says_so_when_a_file_is_no_picture(page: Chromium, tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("no picture")
    choose(page, tmp_path / "note.png")
    assert "is not a picture" in page.run("document.querySelector('#state').innerText")


@pytest.mark.parametrize("format_", [Format.TFLITE, Format.ONNX], ids=str)
def test_a_site_offers_the_gpu_and_checks_what_it_computes(format_: Format, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_site(small_artifact(tmp_path, format_, Precision.FP32), folder)
    photos = [tmp_path / "one.png", tmp_path / "other.png"]
    for number, photo in enumerate(photos):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(photo)
    files = {each.relative_to(folder).as_posix(): each for each in folder.rglob("*")}
    contents: dict[str, bytes | Path] = {
        name: each for name, each in files.items() if each.is_file()
    }
    state, check = "document.querySelector('#state').innerText", "document.querySelector('#gpu')"
    with Chromium(tmp_path / "profile", SOFTWARE_GPU, has_gpu=True) as browser:
        with FileServer(contents) as server:
            browser.open(server.address, width=WIDTHS[0])
            browser.wait(READY)
            if browser.run("document.querySelector('#choice').hidden"):
                pytest.skip("this Chromium has no WebGPU in software")
            choose(browser, photos[0])
            expected = browser.run(CLASSES)
            browser.run(f"{check}.click()")
            browser.wait(f"!{check}.disabled && {state} !== 'Preparing …'")
            assert browser.run(state) == "Ready."
            assert "WebGPU" in browser.run("document.querySelector('#facts').innerText")
            browser.run("document.querySelector('#classes').replaceChildren()")
            choose(browser, photos[1])
            choose(browser, photos[0])
            assert browser.run(CLASSES) == expected
        described = json.loads((folder / "model.json").read_text())
        described["gpu"]["leastDb"] = 1e9  # more than any driver reaches
        contents["model.json"] = json.dumps(described).encode()
        with FileServer(contents) as server:
            browser.open(server.address, width=WIDTHS[0])
            browser.wait(READY)
            browser.run(f"{check}.click()")
            words = browser.wait(f"!{check}.disabled && {state} !== 'Preparing …' && {state}")
            assert words.startswith("The GPU is not used: its results are wrong")
            assert not browser.run(f"{check}.checked")
            assert "threads" in browser.run("document.querySelector('#facts').innerText")


def test_a_site_forbids_code_and_connections_of_others(page: Chromium) -> None:
    found = page.ask(
        "Runtime.evaluate",
        expression="new Function('return 1')()",
        allowUnsafeEvalBlockedByCSP=False,
    )
    assert "unsafe-eval" in found["exceptionDetails"]["exception"]["description"]
    violated = page.run(
        "new Promise((resolve) => {"
        " document.addEventListener('securitypolicyviolation',"
        " (event) => resolve(event.effectiveDirective), { once: true });"
        " fetch('http://127.0.0.1:9/').catch(() => {}); })"
    )
    assert violated == "connect-src"


@pytest.mark.skipif(
    not os.environ.get("VITEDGE_TEST_PHOTOS") or not SHARED.exists(),
    reason="a real model takes minutes and needs ../shared/data: make clients",
)
def test_deit_tiny_names_photos_in_a_page_as_the_wrapper_does(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = made_once("deit_tiny", tmp_path_factory)
    for name, target in (("model.int8.tflite", "tflite-web"), ("model.int8.onnx", "onnx-web")):
        with vitedge.load(made.folder / name, target) as model:
            found = model.logits(made.photos).argmax(axis=1)
        assert sum(np.equal(found, made.classes(name))) >= 19
