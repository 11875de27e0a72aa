"""One of the processes that train together, for tests/e2e/train/test_strategy.py.

Run as ``python -m tests.support.train_worker JOB``, where the job is a JSON file; TensorFlow can
only join others in a process that has done nothing else with it yet.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vitedge.errors import VitedgeError


def main(job_file: Path) -> int:
    """Trains, and leaves what came out as ``result.npz`` in the job's own folder."""
    job = json.loads(job_file.read_text())
    import tensorflow as tf

    if job.get("devices"):
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * job["devices"]
        tf.config.set_logical_device_configuration(cpu, parts)
    from tests.e2e.train.test_strategy import RECIPES, held_out_images, images, start
    from vitedge.train import Epoch, Strategy, open_replicas, train

    def after_epoch(epoch: Epoch) -> None:
        print(f"epoch {epoch.number}", flush=True)
        time.sleep(job.get("pause", 0))

    name = job.get("strategy")
    try:
        replicas = open_replicas(None if name is None else Strategy(name))
        print(f"{replicas.count} replicas", flush=True)
        result = train(
            start(),
            images(),
            RECIPES[job["recipe"]],
            held_out=held_out_images(),
            folder=Path(job["run"]),
            resume=job.get("resume", False),
            on_epoch=after_epoch,
            replicas=replicas,
        )
    except VitedgeError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    np.savez(
        job_file.parent / "result.npz",
        history=json.dumps([asdict(epoch) for epoch in result.history]),
        **dict(result.network.named_arrays()),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
