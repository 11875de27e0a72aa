"""How accurate models become in a given time of training.

Run one figure at a time, with nothing else on the machine:

    python benchmarks/training.py digits
    python benchmarks/training.py fine-tune --cifar cifar10.npz --weights deit_tiny.safetensors
    python benchmarks/training.py artefacts --cifar cifar10.npz
    python benchmarks/training.py from-scratch --cifar cifar10.npz --contender ours
    python benchmarks/training.py from-scratch --cifar cifar10.npz --contender keras.io
    python benchmarks/training.py gpu --cifar cifar10.npz

CIFAR-10 is given in a form that ``vitedge train`` takes. Its test images are looked at once, after
training. A number of epochs is chosen for the time; what it came to is printed, as wall time and as
processor time, which other work on the machine prolongs less. Ten minutes of two cores are twenty
of the processor.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cifar_parts import pixels_of, write_training_file

from vitedge.demo.digits import digits_recipe, digits_vit
from vitedge.images.image_sets import ImageSet, digits
from vitedge.importers import read_model
from vitedge.train import open_training_images, split, train

_EVALUATION_BATCH = 200
_CALIBRATION_IMAGES = 200
_CLASSES = 10

# At 224 pixels a step takes twice as long, and CIFAR's images have hardly more to show.
FINE_TUNING = (
    "--image-size 160 --crop 0.5 --flip --batch-size 32 --learning-rate 5e-4 --layer-decay 0.85 "
    "--warmup-epochs 0.5 --stochastic-depth 0.1 --average 0.99"
)

FROM_SCRATCH = (
    "--image-size 32 --patch-size 4 --dim 192 --depth 4 --heads 6 --mlp 384 --crop 1 --flip "
    "--batch-size 64 --learning-rate 1.5e-3 --warmup-epochs 0.5 --average 0.99"
)

# The recipe of DeiT (arXiv:2012.12877, table 9) at the size of the images.
ON_A_GPU = (
    "--image-size 32 --patch-size 4 --dim 256 --depth 9 --heads 4 --mlp 512 --flip --crop 0.6 "
    "--randaugment 2 --mixup 0.8 --cutmix 1.0 --stochastic-depth 0.1 --batch-size 512 "
    "--learning-rate 2e-3 --average 0.999"
)


def measure_digits(seeds: Sequence[int], folds: int) -> None:
    """The demo's recipe on the demo's digits; with folds, on parts of the training digits alone."""
    training, held_out = digits()
    found = []
    for seed in seeds:
        parts = (training, held_out)
        if folds:
            parts = split(training, share=1 / folds, seed=seed)
        started, used = time.perf_counter(), time.process_time()
        trained = train(digits_vit(seed=seed), parts[0], digits_recipe(seed=seed))
        spent = (
            f"{time.perf_counter() - started:.0f} s, {time.process_time() - used:.0f} processor s"
        )
        found.append(accuracy(trained.network, parts[1]))
        count = len(parts[1].samples)
        print(f"seed {seed}: {found[-1]:.2%} of {count} held out, {spent}", flush=True)
    print(f"mean {np.mean(found):.2%}, worst {min(found):.2%}, {len(found)} seeds")


def fine_tune(cifar: Path, weights: Path, folder: Path, *, images: int, epochs: int) -> None:
    """A published model on a few images of other classes; ``artefacts`` then tests it."""
    folder.mkdir(parents=True, exist_ok=True)
    data, published = folder / "few.npz", folder / "published.keras"
    write_training_file(cifar, data, images=images, held_out=500, seed=0)
    vitedge("import", weights, "--resize", "0", "-o", published, "--force")
    options = [*FINE_TUNING.split(), "--epochs", epochs, "-o", folder / "tuned.keras", "--force"]
    vitedge("train", "--data", data, "--init", published, *options)


def measure_artifacts(cifar: Path, folder: Path) -> None:
    """The fine-tuned model in float32 and int8, calibrated on training images, on the test images.

    Its float32 ONNX file stands for the model, which ``convert`` has compared with it.
    """
    with np.load(folder / "few.npz") as arrays:
        chosen = np.random.default_rng(0).permutation(len(arrays["y_train"]))
        chosen = chosen[:_CALIBRATION_IMAGES]
        calibration = {"images": arrays["x_train"][chosen], "labels": arrays["y_train"][chosen]}
        np.savez(folder / "calibration.npz", classes=arrays["classes"], **calibration)
    _, test = open_training_images(cifar)
    arrays = {"images": pixels_of(test.samples), "classes": np.array(test.class_names)}
    np.savez(folder / "test.npz", labels=[sample.label for sample in test.samples], **arrays)
    model, artifacts = folder / "tuned.keras", folder / "artefacts"
    options = ["--calibration", folder / "calibration.npz", "-o", artifacts, "--force"]
    vitedge("convert", "--fp32", "--int8", *options, model)
    reference = artifacts / "tuned.fp32.onnx"
    files = [reference, *(artifacts / f"tuned.int8.{form}" for form in ("tflite", "onnx", "xml"))]
    options = ["--data", folder / "test.npz", "--reference", reference, "--threads", "1"]
    targets = [f"--target={name}-cpu" for name in ("tflite", "onnx", "openvino")]
    vitedge("bench", *files, *options, *targets)


def from_scratch(cifar: Path, folder: Path, *, contender: str, minutes: float, epochs: int) -> None:
    """One contender: ours for a number of epochs, theirs until as much processor time is used."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "cifar.npz"
    test = write_training_file(cifar, data, images=49_000, held_out=1000, seed=0)
    if contender == "ours":
        model = folder / "scratch.keras"
        options = [*FROM_SCRATCH.split(), "--epochs", epochs, "-o", model, "--force"]
        vitedge("train", "--data", data, *options)
        print(f"{accuracy(read_model(model).network, test):.2%} of {len(test.samples)} test images")
        return
    from keras_io_vit import train_for

    with np.load(data) as arrays:
        pixels, labels = arrays["x_train"], arrays["y_train"]
    theirs, seen = train_for(pixels, labels, _CLASSES, processor_s=60 * minutes, seed=0)
    print(f"{time.process_time() / 60:.1f} processor min, {seen} images seen", flush=True)
    answers = theirs.predict(pixels_of(test.samples), _EVALUATION_BATCH, verbose=0).argmax(-1)
    right = answers == [sample.label for sample in test.samples]
    print(f"{right.mean():.2%} of {len(right)} test images")


def on_a_gpu(cifar: Path, folder: Path, *, epochs: int) -> None:
    """From scratch to 90 %, where TensorFlow sees a GPU."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        raise SystemExit("TensorFlow sees no GPU here: this figure was not measured")
    print(", ".join(tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in gpus))
    folder.mkdir(parents=True, exist_ok=True)
    data, model = folder / "cifar.npz", folder / "gpu.keras"
    test = write_training_file(cifar, data, images=49_000, held_out=1000, seed=0)
    vitedge("train", "--data", data, *ON_A_GPU.split(), "--epochs", epochs, "-o", model, "--force")
    print(f"{accuracy(read_model(model).network, test):.2%} of {len(test.samples)} test images")


def accuracy(vit: object, images: ImageSet) -> float:
    """Share of images that the float32 Keras model names right."""
    from vitedge.in_keras.model import to_keras

    model, samples, right = to_keras(vit), images.samples, 0
    for start in range(0, len(samples), _EVALUATION_BATCH):
        batch = samples[start : start + _EVALUATION_BATCH]
        pixels = vit.preprocessing.batch([sample.image for sample in batch])
        answers = model.predict_on_batch(pixels).argmax(-1)
        right += int((answers == [sample.label for sample in batch]).sum())
    return right / len(samples)


def vitedge(*arguments: object) -> None:
    """Runs a command, says which, and what it took altogether, start of TensorFlow included."""
    words = [str(each) for each in arguments]
    print("$ vitedge", *words, flush=True)
    started, used = time.perf_counter(), _processor_s()
    subprocess.run([sys.executable, "-m", "vitedge", *words], check=True)
    minutes, processor_minutes = time.perf_counter() - started, _processor_s() - used
    print(f"  {minutes / 60:.1f} min, {processor_minutes / 60:.1f} processor min", flush=True)


def _processor_s() -> float:
    """Processor time of all commands that were run."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Accuracy within a given time of training.")
    figures = parser.add_subparsers(dest="figure", required=True)
    usual_epochs = {"digits": 0, "fine-tune": 6, "artefacts": 0, "from-scratch": 4, "gpu": 200}
    for name, epochs in usual_epochs.items():
        figure = figures.add_parser(name)
        if name == "digits":
            figure.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
            figure.add_argument("--folds", type=int, default=0, help="leave the held-out alone")
            continue
        figure.add_argument("--cifar", type=Path, required=True)
        figure.add_argument("--folder", type=Path, default=Path("training-figures"))
        if name == "artefacts":
            continue
        figure.add_argument("--epochs", type=int, default=epochs)
        if name == "fine-tune":
            figure.add_argument("--weights", type=Path, required=True)
            figure.add_argument("--images", type=int, default=5000)
        if name == "from-scratch":
            figure.add_argument("--contender", choices=("ours", "keras.io"), default="ours")
            figure.add_argument("--minutes", type=float, default=20, help="of the processor")
    return parser


def main() -> None:
    """Measures the figure that was asked for."""
    choices = vars(_parser().parse_args())
    figure = choices.pop("figure")
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy"))
    print(f"{platform.processor() or platform.machine()}, {cores} cores; {versions}")
    measures = {
        "digits": measure_digits,
        "fine-tune": fine_tune,
        "artefacts": measure_artifacts,
        "from-scratch": from_scratch,
        "gpu": on_a_gpu,
    }
    measures[figure](**choices)


if __name__ == "__main__":
    main()
