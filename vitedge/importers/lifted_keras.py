"""Any other Keras model (``.keras``, ``.h5``) and any SavedModel, by lifting."""

from __future__ import annotations

from pathlib import Path

from vitedge.importers import Imported, ImportOptions
from vitedge.importers.lift import lift
from vitedge.importers.lift.joined_outputs import left_out_words
from vitedge.importers.lift.keras_files import SAVED_MODEL, keras_config, open_keras_model
from vitedge.importers.overrides import with_options_after_lifting


class LiftedKerasImporter:
    """Traces the model and probes it."""

    name = "lifted-keras"
    rank = 1

    def recognizes(self, path: Path) -> bool:
        """A file with a Keras model's config, or a SavedModel's folder."""
        return (path / SAVED_MODEL).is_file() or keras_config(path) is not None

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Loads, traces and lifts."""
        loaded = open_keras_model(
            path,
            custom_objects=options.custom_objects,
            trust=options.trust,
            image_size=options.image_size,
            logits=options.logits,
            beside=options.beside,
        )
        probe = loaded.probe()
        lifted = lift(
            probe,
            mean=options.mean,
            std=options.std,
            images=options.images,
            task=options.task,
            beside=options.beside,
        )
        network = with_options_after_lifting(lifted.network, options)
        ignored = left_out_words(loaded.left_out, can_be_given=True)
        words = ", ".join(filter(None, (str(lifted), probe.left_out, ignored)))
        return Imported(network, words, str(lifted.proof))


PLUGIN = LiftedKerasImporter()
