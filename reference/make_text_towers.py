"""Makes ``tests/golden/text_towers``: tiny models of images and texts, with their tokenizers.

transformers builds CLIP, SigLIP and SigLIP 2 with random weights; beside each lie pictures, and
what its logits of them and of a few texts are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel

from reference.golden import HALVES, SMALL, images_of, normalized
from reference.torch_models import randomize

TEXTS = ("a cat", "An owl, at night", "the dog")

_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = {**_SIZES, "intermediate_size": 24, "image_size": 16, "patch_size": 4}
_LETTERS = "abcdefghijklmnopqrstuvwxyz,"


def main(folder: Path) -> None:
    """Writes all models."""
    for make in (_clip, _siglip, _siglip2):
        torch.manual_seed(0)
        make(folder / make.__name__.removeprefix("_"))


def _text(length: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    sizes = {"intermediate_size": 24, "max_position_embeddings": length, "vocab_size": vocabulary}
    return {**_SIZES, **sizes, **more}


def _clip(folder: Path) -> None:
    ends = ("<|startoftext|>", "<|endoftext|>")
    merges = [("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>")]
    words = [*_LETTERS, *(f"{each}</w>" for each in _LETTERS), *("".join(each) for each in merges)]
    vocabulary = {word: number for number, word in enumerate([*words, *ends])}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=merges)
    end = vocabulary[ends[1]]
    text = _text(24, len(vocabulary), bos_token_id=end - 1, eos_token_id=end, pad_token_id=end)
    config = transformers.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=8)
    model = transformers.CLIPModel(config)
    given = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    _write(folder, model, tokenizer, dict(given))


def _siglip(folder: Path) -> None:
    """As published: a tokenizer of pieces in ``tokenizer.json``, padding that tokens look at."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(each, -3.0) for each in _LETTERS] + [("▁the", -1.5), ("at", -2.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids"],
    )
    # SiglipTokenizer lowers the letters, drops punctuation and ends each text.
    plain = ("a cat", "an owl at night", "the dog")
    rows = [[*tokenizer.encode(each).ids, 1] for each in plain]
    ids = torch.tensor([row + [0] * (24 - len(row)) for row in rows])
    text = _text(24, len(pieces), projection_size=16)
    config = transformers.SiglipConfig(text_config=text, vision_config=_VISION)
    _write(folder, transformers.SiglipModel(config), fast, {"input_ids": ids})


def _siglip2(folder: Path) -> None:
    """Of transformers' own class for it, which hides the padding on the left."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    merges = [("c", "a"), ("ca", "t")]
    words = [*special, "▁", *_LETTERS, *("".join(each) for each in merges)]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = transformers.Siglip2Tokenizer(
        vocab=vocabulary, merges=merges, add_bos_token=False, add_eos_token=True
    )
    text = _text(24, len(vocabulary), projection_size=16)
    vision = {key: each for key, each in _VISION.items() if key != "image_size"}
    config = transformers.Siglip2Config(
        text_config=text, vision_config={**vision, "num_patches": 16}
    )
    given = tokenizer(list(TEXTS), padding="max_length", max_length=24, return_tensors="pt")
    _write(folder, transformers.Siglip2Model(config), tokenizer, dict(given))


def _write(folder: Path, model: PreTrainedModel, tokenizer: Any, given: dict[str, Any]) -> None:
    randomize(model)
    with torch.no_grad():
        model.logit_scale.fill_(2.5)
        if hasattr(model, "logit_bias"):
            model.logit_bias.fill_(-3.0)
    images = images_of(SMALL)
    pixels = torch.from_numpy(normalized(images, HALVES).transpose(0, 3, 1, 2).copy())
    seen = {"pixel_values": pixels}
    if isinstance(model, transformers.Siglip2Model):
        patches = pixels.reshape(len(pixels), 3, 4, 4, 4, 4).permute(0, 2, 4, 3, 5, 1)
        seen = {
            "pixel_values": patches.reshape(len(pixels), 16, -1),
            "pixel_attention_mask": torch.ones(len(pixels), 16, dtype=torch.int32),
            "spatial_shapes": torch.full((len(pixels), 2), 4),
        }
    with torch.no_grad():
        logits = model(**seen, **given).logits_per_image.numpy()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = {"siglip": "SiglipImageProcessor", "siglip2": "Siglip2ImageProcessor"}
    side = {"height": 16, "width": 16}
    values = {
        "image_processor_type": processor.get(folder.name, "CLIPImageProcessor"),
        "do_resize": True,
        "size": side if folder.name != "clip" else {"shortest_edge": 16},
        "do_center_crop": folder.name == "clip",
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": HALVES["mean"],
        "image_std": HALVES["std"],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(values, indent=1), "utf-8")
    np.savez_compressed(folder / "expected.npz", images=images, logits=logits)


if __name__ == "__main__":
    main(Path("tests/golden/text_towers"))
