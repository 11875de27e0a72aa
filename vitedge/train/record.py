"""A run's folder: where it stands, so that it survives a power cut, and its logs."""

from __future__ import annotations

import hashlib
import io
import json
import tokenize
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from vitedge.errors import DataError, UsageError
from vitedge.files import json_values
from vitedge.files.dataclass_json import from_plain
from vitedge.files.npz_arrays import NPZ_DAMAGE
from vitedge.files.staging import publish, staging, write_whole
from vitedge.network.blocks import blocks
from vitedge.network.saved import described
from vitedge.network.summary import summary
from vitedge.report.curve import render_curve
from vitedge.train.progress import Epoch, history_csv

if TYPE_CHECKING:
    import numpy.typing as npt

    from vitedge.network.network import Network
    from vitedge.train.recipe import TrainingRecipe

STATE_FILE = "state.npz"
LOG_FILE = "log.csv"
PAGE_FILE = "report.html"
EVENTS_FILE = "events.out.tfevents.vitedge"

_TAGS = (
    *("loss", "held_out_loss", "accuracy", "held_out_accuracy"),
    *("learning_rate", "images_per_second"),
)
_SHOWN, _LONGEST = 10, 80  # of differences, and of the words of each

# Between what people read and a digest that tells apart what reads alike.
_MARK = " #"

# Values of a recipe whose option has another name.
_CALLED = {
    "products": "mixed precision",
    "share": "teacher share",
    "hard": "hard distillation",
    "blocks": "imitate blocks",
    "operations": "randaugment",
    "keep_best": "keep the best epoch",
}

_GIVEN = ("model to start from", "teacher", "images")
"""What follows from no value of a recipe."""

_NO_FACTS: Mapping[str, str] = MappingProxyType({})


def run_folder_of(output: Path) -> Path:
    """The folder that records the run of a model, so that it can be resumed: beside the model."""
    return output.with_suffix(".run")


@dataclass(frozen=True, eq=False)
class Standing:
    """The state of a run after an epoch.

    Attributes:
        history: Its epochs so far.
        state: The result of ``Learner.state``.
        kept: The weights that would be the result if it ended here.
        kept_accuracy: Their held-out accuracy; None when not measured.
    """

    history: tuple[Epoch, ...]
    state: Sequence[npt.NDArray[np.generic]]
    kept: Sequence[npt.NDArray[np.float32]]
    kept_accuracy: float | None

    def about(self) -> dict[str, Any]:
        """All but the arrays, as JSON holds it."""
        return {
            "history": [asdict(epoch) for epoch in self.history],
            "kept_accuracy": self.kept_accuracy,
        }

    @classmethod
    def of(
        cls,
        about: Mapping[str, Any],
        state: Sequence[npt.NDArray[np.generic]],
        kept: Sequence[npt.NDArray[np.float32]],
    ) -> Standing:
        """Makes a standing of the result of ``about``, and the arrays.

        Raises:
            ValueError: The history is none; KeyError or TypeError, too.
        """
        history = tuple(from_plain(Epoch, epoch) for epoch in about["history"])
        numbers = [value for epoch in about["history"] for value in epoch.values()]
        if not history or not all(
            isinstance(each, int | float | None) for each in [*numbers, about["kept_accuracy"]]
        ):
            raise ValueError("its history is not made of numbers")
        return cls(history, state, kept, about["kept_accuracy"])


class Record:
    """The folder of one run.

    Args:
        folder: Made if need be.
        run: The facts that ``run_parts`` gives for the run; a state of another run is not taken up.
        facts: The facts of the training, in words, for the page.
        named: Names of the recipe's values that somebody chose; None: all of them.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, str],
        facts: Mapping[str, str] = _NO_FACTS,
        *,
        named: Collection[str] | None = None,
    ) -> None:
        self._folder, self._run, self._facts = folder, dict(run), facts
        self._named = None if named is None else sorted(map(_in_words, named))

    def write(self, standing: Standing) -> None:
        """Replaces the state, the logs and the page, each in one step.

        Raises:
            VitedgeError: The disk refuses.
        """
        arrays: dict[str, Any] = {
            f"state.{index}": array for index, array in enumerate(standing.state)
        }
        arrays |= {f"kept.{index}": array for index, array in enumerate(standing.kept)}
        content = io.BytesIO()
        about = {"run": self._run, "named": self._named, **standing.about()}
        np.savez(content, about=np.array(json.dumps(about)), **arrays)
        write_whole(self._folder / STATE_FILE, content.getvalue())
        write_whole(self._folder / LOG_FILE, history_csv(standing.history))
        write_whole(self._folder / PAGE_FILE, self._page(standing.history))
        with staging(self._folder) as staged:
            _events(standing.history, staged / EVENTS_FILE)
            publish([staged / EVENTS_FILE], self._folder)

    def _page(self, history: Sequence[Epoch]) -> str:
        """Drawn plainly while the run goes on, which takes no time that training would miss."""
        is_over = history[-1].number == history[-1].of
        return render_curve(history, self._facts, interactive=is_over)

    def read(self) -> Standing:
        """The state that the run stopped in.

        Raises:
            UsageError: There is nothing to resume, or it is another run.
            DataError: The state is damaged.
        """
        path = self._folder / STATE_FILE
        if not path.is_file():
            raise UsageError(f"there is no run to resume in '{self._folder}'")
        try:
            # From memory: NumPy leaves a damaged file open.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                standing = Standing.of(about, _numbered(arrays, "state"), _numbered(arrays, "kept"))
                run = _read_parts(about["run"])
                named = about.get("named")
        except (*NPZ_DAMAGE, SyntaxError, tokenize.TokenError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"'{path}' is damaged ({reason}); start anew without it") from error
        if run != self._run:
            chosen = self._chosen(named)
            differences = "; ".join(_differences(run, self._run, chosen)[:_SHOWN])
            raise UsageError(
                f"the run in '{self._folder}' was started with something else: {differences}; "
                "resume it with what it was started with, or start anew with --force"
            )
        return standing

    def _chosen(self, named: object) -> set[str] | None:
        """Words for the values that somebody chose for either run; None where that is unknown."""
        if self._named is None or not isinstance(named, list):
            return None
        return {*self._named, *map(str, named)}


def _events(history: Sequence[Epoch], path: Path) -> None:
    """Writes the history as TensorBoard reads it: TFRecords of TensorFlow's ``event.proto``.

    ``tf.summary`` would need the package tensorboard only to write these same records, and would
    repeat epochs after a resumption.
    """
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tf.compat.v1.Event(file_version="brain.Event:2").SerializeToString())
        for epoch in history:
            values = [
                tf.compat.v1.Summary.Value(tag=tag, simple_value=value)
                for tag in _TAGS
                if (value := getattr(epoch, tag)) is not None
            ]
            event = tf.compat.v1.Event(
                wall_time=epoch.seconds,
                step=epoch.number,
                summary=tf.compat.v1.Summary(value=values),
            )
            writer.write(event.SerializeToString())


def _read_parts(run: Any) -> dict[str, str]:
    if isinstance(run, str):
        raise UsageError("the run was recorded by an older vitedge; start anew with --force")
    values = json_values.mapping({"run": run}, "run")
    return {name: json_values.text(values, name) for name in values}


def _numbered(arrays: Any, name: str) -> list[Any]:
    found: list[Any] = []
    while f"{name}.{len(found)}" in arrays:
        found.append(arrays[f"{name}.{len(found)}"])
    return found


def run_parts(
    network: Network, teacher: Network | None, recipe: TrainingRecipe, labels: npt.NDArray[np.int64]
) -> dict[str, str]:
    """The causes of a run's result, in words by name, so that two runs can be told apart.

    Each value of the recipe, the models, and the images' labels in order.
    """
    parts = {
        _in_words(name): "none" if value is None else str(value)
        for name, value in _flat(asdict(recipe))
    }
    counts = f"{len(labels):,} in {len(np.unique(labels))} classes"
    return {
        **parts,
        "model to start from": _model_in_words(network),
        "teacher": "none" if teacher is None else _model_in_words(teacher),
        "images": f"{counts}{_MARK}{hashlib.sha256(labels.tobytes()).hexdigest()}",
    }


def _in_words(name: str) -> str:
    return _CALLED.get(name, name.replace("_", " "))


def run_digest(parts: Mapping[str, str]) -> str:
    """A digest of what ``run_parts`` returned, in hex."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield name, value


def _model_in_words(network: Network) -> str:
    description, arrays = described(network)
    digest = hashlib.sha256(json.dumps(description).encode())
    for array in arrays.values():
        digest.update(array.tobytes())
    about = summary(network)
    size = " x ".join(str(side) for side in about.image_size)
    words = f"{size} px, {about.dim} wide, {len(blocks(network))} blocks"
    return f"{words}, {network.classes} classes{_MARK}{digest.hexdigest()}"


def _differences(
    before: Mapping[str, str], now: Mapping[str, str], chosen: Collection[str] | None = None
) -> list[str]:
    """The differences between two runs, such as ``learning rate 0.001, now 0.003``.

    Args:
        before: The facts that ``run_parts`` gave for the earlier run.
        now: The facts that it gives for this run.
        chosen: Names of values that somebody chose: where one of them differs, or the models or
            images do, the others follow from it and are left out. None: all were chosen.
    """
    differ = [
        name
        for name in dict.fromkeys((*now, *before))
        if before.get(name, "none") != now.get(name, "none")
    ]
    causes = [name for name in differ if chosen is None or name in chosen or name in _GIVEN]
    found = []
    for name in causes or differ:
        was, is_now = before.get(name, "none"), now.get(name, "none")
        was, is_now = (each.partition(_MARK)[0][:_LONGEST] for each in (was, is_now))
        same = f"another {name} ({was}, too)" if was == is_now else f"{name} {was}, now {is_now}"
        found.append(same)
    return found
