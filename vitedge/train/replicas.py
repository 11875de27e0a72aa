"""Several devices or machines that train one model, on TensorFlow's own distribution.

Each replica takes its share of every batch, and the gradients are summed. The weights are plain
variables, one copy in each process: see docs/decisions/0024.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import UsageError, VitedgeError
from vitedge.train.engine import import_tensorflow, start_tensorflow

TF_CONFIG = "TF_CONFIG"
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


class Strategy(StrEnum):
    """Shares work: among the devices of this machine, or among several machines."""

    MIRRORED = "mirrored"
    MULTIWORKER = "multiworker"


class Replicas:
    """The replicas that share the work; one alone behaves as if there were no such class.

    Args:
        strategy: A ``tf.distribute.Strategy`` of one process or one per worker; None is alone.
        worker: Number of this process; 0 is the chief, who alone writes files.
        are_machines: Whether other processes take part.
    """

    def __init__(
        self, strategy: Any = None, *, worker: int = 0, are_machines: bool = False
    ) -> None:
        self._strategy = strategy
        self.worker = worker
        self.are_machines = are_machines
        self.count: int = 1 if strategy is None else strategy.num_replicas_in_sync

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the record and the model."""
        return self.worker == 0

    def run(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Calls a function on every replica; what it returned on the first one of this process.

        Args:
            function: A function of tensors that gives tensors in any structure.
            arguments: The results of ``each`` or ``streams``.
        """
        if self._strategy is None:
            return function(*arguments)
        return self._first(self._strategy.run(function, args=tuple(arguments)))

    def number(self) -> int:
        """The number of this replica among all; call it inside ``run``."""
        import tensorflow as tf

        if self._strategy is None:
            return 0
        return int(
            tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        )

    def sum(self, values: Any) -> Any:
        """The sum over all replicas of tensors of one dtype in any structure, inside ``run``."""
        import tensorflow as tf

        if self._strategy is None:
            return values
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

    def each(self, make: Callable[[int], Any]) -> Any:
        """A value for each replica of this process, made from its number among all."""
        if self._strategy is None:
            return make(0)
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: make(int(context.replica_id_in_sync_group))
        )

    def streams(self, make: Callable[[int], Any]) -> Iterator[Any]:
        """The elements of each replica's dataset, step by step, until one of them ends."""
        if self._strategy is None:
            return iter(make(0))
        started: dict[int, Iterator[Any]] = {}

        def start(replica: int) -> Any:
            started[replica] = iter(make(replica))
            return np.int64(0)

        self.each(start)
        return self._in_step(started)

    def _in_step(self, started: dict[int, Iterator[Any]]) -> Iterator[Any]:
        while True:
            try:
                yield self.each(lambda replica: next(started[replica]))
            except StopIteration:
                return

    def text_from_chief(self, text: str) -> str:
        """The chief's text, everywhere."""
        content = text.encode() if self.is_chief else b""
        (length,) = self.from_chief([np.array(len(content))])
        padded = np.zeros(int(length), np.int64)
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        return bytes(self.from_chief([padded])[0].astype(np.uint8)).decode()

    def from_chief(self, arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The chief's arrays, everywhere; the others' are of the same shapes and types."""
        if self._strategy is None:
            return list(arrays)
        return [self._from_chief(np.asarray(array)) for array in arrays]

    def _from_chief(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        import tensorflow as tf

        values = self.each(
            lambda replica: tf.identity(array if replica == 0 else np.zeros_like(array))
        )
        total = self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
        return np.asarray(total.numpy(), array.dtype).reshape(array.shape)

    def agree(self, digest: str, *, resume: bool) -> None:
        """Makes sure that all processes were started with the same.

        Args:
            digest: Hexadecimal, of all that decides the result.
            resume: Whether to resume.

        Raises:
            UsageError: This process's is not the chief's, or another's is not.
        """
        ours = np.array([*bytes.fromhex(digest), resume], np.int64)
        (chiefs,) = self.from_chief([ours])
        differs = int((chiefs != ours).any())
        others = self._total(differs)
        if differs:
            raise UsageError(
                f"worker {self.worker} was started with another model, recipe, --resume or set of "
                "images than worker 0: start all with the same command, and name --mixed-precision "
                "where the machines differ"
            )
        if others:
            raise UsageError("another worker was started with other options or images; it says so")

    def _total(self, number: int) -> int:
        """The sum of a number of each process, counted once for each of its replicas."""
        import tensorflow as tf

        if self._strategy is None:
            return number
        values = self.each(lambda replica: tf.constant(number, tf.int64))
        return int(self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None))

    def _first(self, results: Any) -> Any:
        import tensorflow as tf

        local = self._strategy.experimental_local_results
        return tf.nest.map_structure(lambda result: local(result)[0], results)


@dataclass(frozen=True)
class Cluster:
    """The content of TF_CONFIG.

    Attributes:
        workers: Addresses, the chief's first.
        worker: Number of this process among them.
    """

    workers: tuple[str, ...]
    worker: int


def open_replicas(
    strategy: Strategy | None, *, say: Callable[[str], None] = lambda words: None
) -> Replicas:
    """Connects those that share the work; waits for them where they are other machines.

    Several machines are to be connected before TensorFlow has looked at its devices.

    Args:
        strategy: The way to share it; None does not share it.
        say: Told who takes part, and who is waited for.

    Raises:
        UsageError: TF_CONFIG is missing or wrong.
        VitedgeError: The other workers cannot be reached.
    """
    if strategy is None:
        return Replicas()
    if strategy == Strategy.MIRRORED:
        tf = start_tensorflow()
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        names = [device.name for device in devices]
        say(f"each batch is divided among {', '.join(names)}")
        return Replicas(tf.distribute.MirroredStrategy(names))
    cluster = read_cluster(os.environ.get(TF_CONFIG))
    tf = import_tensorflow()
    others = [each for index, each in enumerate(cluster.workers) if index != cluster.worker]
    if others:
        say(f"worker {cluster.worker} waits for {', '.join(others)}")
    try:
        joined = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, tf.errors.OpError) as error:
        raise VitedgeError(
            f"worker {cluster.worker} cannot join {', '.join(cluster.workers)}: {error}"
        ) from error
    return Replicas(joined, worker=cluster.worker, are_machines=len(cluster.workers) > 1)


def demand_cluster(strategy: Strategy | None) -> None:
    """Refuses workers without a cluster, before anything is read.

    Raises:
        UsageError: TF_CONFIG is needed, and missing or wrong.
    """
    if strategy == Strategy.MULTIWORKER:
        read_cluster(os.environ.get(TF_CONFIG))


def read_cluster(text: str | None) -> Cluster:
    """The cluster of a ``TF_CONFIG``, which TensorFlow reads, too.

    Raises:
        UsageError: ``TF_CONFIG`` is missing, or does not say which of which workers this is.
    """
    if not text:
        raise UsageError(
            f"--strategy multiworker needs the environment variable {TF_CONFIG} on every machine, "
            f"with its own index: {_EXAMPLE}"
        )
    try:
        values = json.loads(text)
        jobs, task = values["cluster"], values["task"]
        kind, index = task["type"], int(task["index"])
        workers = tuple(address for job in ("chief", "worker") for address in jobs.get(job, ()))
        place = index + (len(jobs.get("chief", ())) if kind == "worker" else 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{TF_CONFIG} is not such as {_EXAMPLE}: {text}") from error
    if kind not in ("chief", "worker") or not 0 <= index < len(jobs.get(kind, ())):
        raise UsageError(
            f"{TF_CONFIG} says that this is {kind} {index}, and the cluster has "
            + ", ".join(f"{len(addresses)} of {job}" for job, addresses in jobs.items())
        )
    return Cluster(workers, place)
