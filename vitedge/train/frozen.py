"""The outputs of frozen layers for each image: computed once and kept on disk.

Where the last two of twelve blocks learn, the other ten then cost only in the beginning.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import VitedgeError
from vitedge.network.blocks import Ancestry, blocks, frontier, head_of
from vitedge.train.pipeline import evaluation_indices, shuffled_indices
from vitedge.train.share import Share, whole

if TYPE_CHECKING:
    from vitedge.network.network import Network, Value
    from vitedge.train.recipe import TrainingRecipe


def can_be_kept(recipe: TrainingRecipe, teacher: Network | None) -> bool:
    """Whether the frozen layers see nothing in an epoch that they have not seen before.

    A mirrored image is a second one to keep; crops, shifts and blends are new each time, and a
    teacher needs the pixels. Training that rounds weights rounds the frozen ones, too.
    """
    return (
        recipe.trainable_blocks is not None
        and recipe.augmentation.at_most_mirrors
        and teacher is None
        and not recipe.repairs
    )


class FrozenPart:
    """The part of a network that does not learn, and what the rest must know of it.

    Args:
        network: The network.
        trainable_blocks: The number of blocks that learn, as in the recipe; 0 is the head alone.

    Attributes:
        values: The values that must be known.
    """

    def __init__(self, network: Network, trainable_blocks: int | None) -> None:
        found = blocks(network)
        if trainable_blocks == 0:
            head = set(head_of(network, found))
            inside = tuple(value for value in network.values if value not in head)
        else:
            first = found[len(found) - (trainable_blocks or len(found))]
            inside = Ancestry(network).between(None, first.start)
        self.values = frontier(network, network.logits, inside)

    def packed(self, tensors: Sequence[Any]) -> Any:
        """The tensors of ``values`` as one, float32 ``(N, numbers)``."""
        import tensorflow as tf

        flat = [
            tf.reshape(tf.cast(each, tf.float32), (tf.shape(each)[0], math.prod(each.shape[1:])))
            for each in tensors
        ]
        return flat[0] if len(flat) == 1 else tf.concat(flat, axis=1)

    def unpacked(self, rows: Any) -> dict[Value, Any]:
        """The arrays that ``packed`` packed."""
        import tensorflow as tf

        sizes = [math.prod(value.shape) for value in self.values]
        parts = tf.split(rows, sizes, axis=1)
        return {
            value: tf.reshape(part, (-1, *value.shape))
            for value, part in zip(self.values, parts, strict=True)
        }


class FrozenOutputs:
    """The outputs for every image of a set, in a file that is gone with this object.

    Args:
        batches: A dataset of pixels and targets, in the set's own order.
        labels: The class of each image, ``(N,)``.
        compute: Pixels ``(B, H, W, C)`` to what is kept, float32 ``(B, ...)``.
        mirrored: Keep those of the mirrored images, too.
        folder: The folder of the file; None is the system's place for temporary files.
        progress: Called with the number of batches done and of all.

    Raises:
        DataError: An image cannot be decoded.
        VitedgeError: The disk refuses.
    """

    def __init__(
        self,
        batches: Any,
        labels: npt.NDArray[np.int64],
        compute: Callable[[Any], Any],
        *,
        mirrored: bool = False,
        folder: Path | None = None,
        progress: Callable[[int, int], None],
    ) -> None:
        self.labels, self.copies = labels, 2 if mirrored else 1
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            # Written, then mapped: a full disk is an error here, and a crash in a mapped file.
            with tempfile.TemporaryFile(dir=folder) as file:
                row = self._write(file, batches, compute, progress)
                file.flush()
                shape = (self.copies, len(labels), *row)
                self._outputs = np.memmap(file, np.float32, "r", shape=shape)
        except OSError as error:
            place = folder or tempfile.gettempdir()
            raise VitedgeError(
                f"cannot keep what the frozen layers compute in '{place}': "
                f"{error.strerror or error}"
            ) from error

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's output."""
        return tuple(self._outputs.shape[2:])

    def rows(
        self, indices: npt.NDArray[np.int64], copies: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.float32]:
        """The outputs of some images, ``(len(indices), ...)``.

        Args:
            indices: The images.
            copies: 1 for those that are mirrored, 0 for the others; None takes all as they are.
        """
        return np.asarray(self._outputs[0 if copies is None else copies, indices])

    def _write(
        self,
        file: IO[bytes],
        batches: Any,
        compute: Callable[[Any], Any],
        progress: Callable[[int, int], None],
    ) -> tuple[int, ...]:
        """Writes one copy of the set after the other; the shape of one image's output."""
        done, total = 0, self.copies * len(batches)
        row: tuple[int, ...] = ()
        for copy in range(self.copies):
            for pixels, _ in batches:
                outputs = np.asarray(compute(pixels[:, :, ::-1] if copy else pixels), np.float32)
                file.write(outputs.tobytes())
                row, done = outputs.shape[1:], done + 1
                progress(done, total)
        return row


def kept_batches(
    outputs: FrozenOutputs,
    classes: int,
    recipe: TrainingRecipe,
    first_epoch: int = 0,
    share: Share | None = None,
) -> Any:
    """The batches of ``training_batches``, with frozen outputs in place of pixels."""
    import tensorflow as tf

    labels = tf.constant(outputs.labels)
    share = share or whole(min(recipe.batch_size, len(outputs)))

    def fetch(step: Any, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng((recipe.seed, int(step)))
        copies = rng.integers(outputs.copies, size=share.of)
        return outputs.rows(indices, copies[list(share.positions)])

    def load(step: Any, indices: Any) -> Any:
        indices = share.take(indices)
        inputs = tf.numpy_function(fetch, [step, indices], tf.float32)
        inputs = tf.ensure_shape(inputs, (len(share.positions), *outputs.shape))
        return inputs, tf.one_hot(tf.gather(labels, indices), classes)

    batches = shuffled_indices(len(outputs), recipe, first_epoch)
    return batches.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def kept_evaluation_batches(
    outputs: FrozenOutputs, classes: int, replica: int = 0, of: int = 1
) -> Any:
    """The batches of ``evaluation_batches``, with frozen outputs in place of pixels."""
    import tensorflow as tf

    labels = tf.constant(outputs.labels)

    def load(indices: Any, counts: Any) -> Any:
        inputs = tf.numpy_function(outputs.rows, [indices], tf.float32)
        inputs = tf.ensure_shape(inputs, (None, *outputs.shape))
        return inputs, tf.one_hot(tf.gather(labels, indices), classes) * counts

    return evaluation_indices(len(outputs), replica, of).map(load).prefetch(1)
