"""Several devices and several processes train one model, to the same result as one alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.train.test_runs import QUICK, halves, small_network
from vitedge.errors import UsageError
from vitedge.images.image_sets import ImageSet
from vitedge.network.network import Network
from vitedge.train import Augmentation, Products, Trained, TrainingRecipe, train
from vitedge.train.pipeline import Loader, evaluation_batches, training_batches
from vitedge.train.replicas import Cluster, read_cluster
from vitedge.train.share import shares

# Clipped at all times, or the sum of the gradients would not matter to Adam.
PLAIN = replace(QUICK, gradient_clip=0.1)
RECIPES: dict[str, TrainingRecipe] = {
    "plain": PLAIN,
    "everything": replace(
        PLAIN,
        batch_size=30,
        stochastic_depth=0.3,
        average=0.9,
        balance_classes=True,
        layer_decay=0.7,
        augmentation=Augmentation(
            crop=0.7, operations=1, shift=0.1, rotation=5, zoom=0.1, mixup=0.2, cutmix=0.5
        ),
    ),
    "float16": replace(PLAIN, products=Products.FLOAT16),
    "head": replace(PLAIN, trainable_blocks=0),
    "longer": replace(PLAIN, epochs=8),
}


def start() -> Network:
    return small_network()


def images() -> ImageSet:
    return halves()


def held_out_images() -> ImageSet:
    return halves(31, seed=1)  # an odd number: one worker has an image more


@dataclass
class Worker:
    """A process that trains, and what came of it."""

    process: subprocess.Popen[str]
    folder: Path

    def ended(self, seconds: float = 240) -> str:
        """What it said, once it has ended."""
        return self.process.communicate(timeout=seconds)[0]

    @property
    def result(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "result.npz") as arrays:
            return dict(arrays)


def launch(folder: Path, config: str | None = None, **job: object) -> Worker:
    folder.mkdir(exist_ok=True)
    job_file = folder / "job.json"
    job_file.write_text(json.dumps({"run": str(folder / "run"), **job}))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if config is not None:
        environment["TF_CONFIG"] = config
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.train_worker", str(job_file)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Worker(process, folder)


def configurations(count: int) -> list[str]:
    """A TF_CONFIG on loopback for each of so many workers."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    workers = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


def launch_workers(folder: Path, *jobs: dict[str, object]) -> list[Worker]:
    return [
        launch(folder / f"worker{index}", config, strategy="multiworker", **job)
        for index, (config, job) in enumerate(zip(configurations(len(jobs)), jobs, strict=True))
    ]


def alone(recipe: str) -> Trained:
    return train(start(), images(), RECIPES[recipe], held_out=held_out_images())


def assert_same_result(worker: Worker, expected: Trained, rounding: float = 1e-4) -> None:
    """Up to float32 sums in another order, which steps add up; ``rounding`` is relative."""
    found = worker.result
    for ours, theirs in zip(json.loads(str(found["history"])), expected.history, strict=True):
        assert ours["loss"] == pytest.approx(theirs.loss, rel=rounding)
        assert ours["held_out_accuracy"] == theirs.held_out_accuracy
    for name, array in expected.network.named_arrays():
        # Keys' biases have no gradient but rounding, which Adam makes as large as any other.
        if not name.endswith("k.bias"):
            np.testing.assert_allclose(found[name], array, atol=2 * rounding, err_msg=name)


class TestShares:
    @given(st.integers(1, 12), st.integers(0, 60))
    def test_divide_a_batch_in_pairs_that_are_mixed_with_each_other(self, replicas, more):
        batch = 2 * replicas + more
        divided = shares(batch, replicas)
        assert len(divided) == replicas
        assert sorted(p for share in divided for p in share.positions) == list(range(batch))
        for share in divided:
            partners = [batch - 1 - position for position in share.positions]
            assert partners == list(share.positions[::-1])
        # As even as pairs allow; the middle of an odd batch is a pair of one.
        sizes = [len(share.positions) for share in divided]
        assert max(sizes) - min(sizes) <= 3

    def test_refuse_a_batch_that_is_too_small(self):
        with pytest.raises(UsageError, match="a batch of 3 cannot be divided among 3 replicas"):
            shares(3, 3)


class TestDividedImages:
    everything = replace(RECIPES["everything"], epochs=2)

    @pytest.mark.parametrize("replicas", [2, 3])
    def test_are_those_of_the_whole_batch_whoever_gets_them(self, replicas):
        loader = Loader(images(), start().preprocessing, 3)
        divided = shares(self.everything.batch_size, replicas)
        whole = list(training_batches(loader, 3, self.everything))
        parts = [
            list(training_batches(loader, 3, self.everything, share=share)) for share in divided
        ]
        for step, (pixels, targets) in enumerate(whole):
            for share, part in zip(divided, parts, strict=True):
                positions = list(share.positions)
                np.testing.assert_array_equal(part[step][0], pixels.numpy()[positions])
                np.testing.assert_array_equal(part[step][1], targets.numpy()[positions])

    @pytest.mark.parametrize("count", [1, 5, 300])
    def test_are_each_counted_once_in_evaluation(self, count):
        loader = Loader(halves(count), start().preprocessing, 3)
        parts = [list(evaluation_batches(loader, 3, replica, 2)) for replica in range(2)]
        assert len(parts[0]) == len(parts[1])
        counted = np.sum([targets.numpy().sum(0) for part in parts for _, targets in part], 0)
        np.testing.assert_array_equal(counted, np.bincount(loader.labels, minlength=3))


class TestCluster:
    def test_lists_the_chief_first(self):
        text = json.dumps(
            {
                "cluster": {"worker": ["b:1", "c:1"], "chief": ["a:1"]},
                "task": {"type": "worker", "index": 1},
            }
        )
        assert read_cluster(text) == Cluster(("a:1", "b:1", "c:1"), 2)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "needs the environment variable TF_CONFIG on every machine"),
            ("{", "TF_CONFIG is not such as"),
            ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG is not such as"),
            ("[]", "TF_CONFIG is not such as"),
            (
                '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
                "this is worker 1, and the cluster has 1 of worker",
            ),
            (
                '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
                "this is ps 0",
            ),
        ],
    )
    def test_that_is_no_cluster_is_refused(self, text, message):
        with pytest.raises(UsageError, match=message):
            read_cluster(text)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["everything", "float16", "head"])
def test_two_devices_of_one_machine_train_as_one_does(tmp_path, recipe):
    worker = launch(tmp_path, recipe=recipe, strategy="mirrored", devices=2)
    expected = alone(recipe)
    said = worker.ended()
    assert "2 replicas" in said, said
    assert_same_result(worker, expected)


@pytest.mark.slow
def test_two_workers_train_as_one_does_and_the_chief_alone_writes(tmp_path):
    workers = launch_workers(tmp_path, *[{"recipe": "everything"}] * 2)
    expected = alone("everything")
    for worker in workers:
        said = worker.ended()
        assert "2 replicas" in said, said
        assert_same_result(worker, expected)
    assert [(worker.folder / "run").exists() for worker in workers] == [True, False]


@pytest.mark.slow
def test_a_dead_worker_ends_the_others_and_all_resume_to_the_same_result(tmp_path):
    def wait_for(condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + 120  # a busy machine takes a while to import TensorFlow
        while not condition() and time.monotonic() < give_up:
            time.sleep(0.01)

    workers = launch_workers(tmp_path, *[{"recipe": "longer", "pause": 0.5}] * 2)
    wait_for((workers[0].folder / "run" / "log.csv").exists)
    workers[1].process.kill()
    workers[1].ended()
    said = workers[0].ended()
    assert "another worker ended or cannot be reached" in said
    assert workers[0].process.returncode == 1
    workers = launch_workers(tmp_path, *[{"recipe": "longer", "resume": True}] * 2)
    expected = alone("longer")
    for worker in workers:
        said = worker.ended()
        assert "epoch 1\n" not in said, said  # it went on where it was
        assert_same_result(worker, expected, rounding=1e-3)


@pytest.mark.slow
def test_a_worker_with_other_options_is_named(tmp_path):
    workers = launch_workers(tmp_path, {"recipe": "plain"}, {"recipe": "longer"})
    chief, other = (worker.ended() for worker in workers)
    assert "another worker was started with other options" in chief
    assert "worker 1 was started with another model, recipe" in other
    assert [worker.process.returncode for worker in workers] == [1, 1]
