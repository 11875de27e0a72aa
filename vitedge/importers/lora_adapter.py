"""LoRA adapters of PEFT: read into the base that the user gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitedge.errors import ModelError
from vitedge.files.json_values import shown
from vitedge.importers import Imported, ImportOptions, importers
from vitedge.importers.reading.json_file import peek_json
from vitedge.importers.reading.lora import CONFIG, read_adapter


class LoraImporter:
    """Reads the folder of an adapter, or a file in it."""

    name = "lora"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """An ``adapter_config.json`` that names the kind of the adapter."""
        return "peft_type" in peek_json(_folder_of(path) / CONFIG)

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the base by its own importer, with the adapter merged into its weights."""
        folder = _folder_of(path)
        base = options.base
        if base is None:
            named = peek_json(folder / CONFIG).get("base_model_name_or_path")
            raise ModelError(
                f"'{path}' is an adapter, which changes a model ({shown(named)}): give "
                "that model's folder or file with --base"
            )
        if not base.exists():
            raise ModelError(f"there is no model '{base}' to merge '{path}' into")
        adapter = read_adapter(folder)
        importer = next((each for each in importers() if each.recognizes(base)), None)
        if importer is not None and importer.name != self.name:
            imported = importer.read(base, replace(options, base=None, adapter=adapter))
            if adapter.was_merged:
                return replace(imported, path=f"{imported.path}, LoRA of '{folder.name}' merged")
        raise ModelError(
            f"'{base}' is not a checkpoint of timm, torchvision or Hugging Face, and the adapter "
            f"'{path}' cannot be merged into it"
        )


def _folder_of(path: Path) -> Path:
    return path.parent if path.is_file() else path


PLUGIN = LoraImporter()
