"""Any ONNX model, whoever exported it, by lifting."""

from __future__ import annotations

from pathlib import Path

from vitedge.importers import Imported, ImportOptions
from vitedge.importers.lift import lift
from vitedge.importers.lift.joined_outputs import left_out_words
from vitedge.importers.lift.onnx_probe import OnnxProbe
from vitedge.importers.overrides import with_options_after_lifting


class LiftedOnnxImporter:
    """Probes the graph with ONNX Runtime."""

    name = "lifted-onnx"
    rank = 1

    def recognizes(self, path: Path) -> bool:
        """A file that calls itself ONNX; the format has no mark of its own."""
        return path.suffix.lower() == ".onnx" and path.is_file()

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads and lifts."""
        probe = OnnxProbe(
            path, image_size=options.image_size, logits=options.logits, beside=options.beside
        )
        lifted = lift(
            probe,
            mean=options.mean,
            std=options.std,
            images=options.images,
            task=options.task,
            beside=options.beside,
        )
        network = with_options_after_lifting(lifted.network, options)
        left_out = () if options.tail else probe.left_out
        ignored = left_out_words(left_out, can_be_given=True)
        words = ", ".join(filter(None, (str(lifted), ignored)))
        return Imported(network, words, str(lifted.proof))


PLUGIN = LiftedOnnxImporter()
