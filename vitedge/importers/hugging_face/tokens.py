"""Texts as numbers, as the tokenizer beside a model of transformers says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, UsageError, first_line, missing_package
from vitedge.files.json_values import mapping, shown, texts, whole
from vitedge.files.limits import refuse_long_text
from vitedge.importers.hugging_face.text_families import TextFamily, of_tokenizer
from vitedge.importers.reading.json_file import peek_json

_TOKENIZER, _CONFIG = "tokenizer.json", "tokenizer_config.json"
_SIDES = ("left", "right")
_WRONG_END = 2
"""The ``eos_token_id`` that configs of CLIP had by mistake: the largest number is the last token's
then (huggingface/transformers#24773)."""

Ids: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Tokens:
    """Texts of one model.

    Attributes:
        ids: ``(texts, length)``.
        seen: Whether other tokens may look at each token, ``(texts, length)``.
        pooled: The position in each text whose token stands for it, ``(texts,)``.
    """

    ids: Ids
    seen: npt.NDArray[np.bool_]
    pooled: Ids


def tokens_of(
    folder: Path, family: TextFamily, values: Mapping[str, Any], written: Sequence[str]
) -> Tokens:
    """The tokens of texts.

    Args:
        folder: The folder of the tokenizer.
        family: The family of the model.
        values: The content of its ``text_config``.
        written: The texts.

    Raises:
        ModelError: There is no ``tokenizer.json``, or it is damaged, or does not fit the model.
        UsageError: A text is too long for the model.
        UnavailableError: The package for tokenizers is not installed.
    """
    tokenizer, config = _open(folder / _TOKENIZER), peek_json(folder / _CONFIG)
    family = of_tokenizer(family, config)
    longest = whole(values, "max_position_embeddings", least=1)
    rows = [_row(tokenizer, config, family, family.cleaned(each)) for each in written]
    for text, row in zip(written, rows, strict=True):
        if len(row) > longest:
            raise UsageError(
                f"the text {shown(text)} has {len(row)} tokens, and the model takes {longest}: "
                "say it in fewer words"
            )
    if family.causal:
        return _ending(rows, values, folder)
    return _padded(rows, longest, tokenizer, config, family)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(
            f"there is no '{path}', which says how texts become numbers: save it with "
            "transformers' AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER), or give "
            "--text-embeddings"
        )
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise missing_package("tokenizers", "texts") from error
    refuse_long_text(f"'{path}'", path.stat().st_size)
    try:
        tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:  # whatever its parser raises, which it does not say
        raise ModelError(f"'{path}' is not a readable tokenizer: {first_line(error)}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _special(tokenizer: Any, config: Mapping[str, Any], key: str) -> int:
    """The number of a token that the config names."""
    named = config.get(key)
    word = mapping(config, key).get("content") if isinstance(named, dict) else named
    number = tokenizer.token_to_id(word) if isinstance(word, str) else None
    if number is None:
        raise ModelError(f"{_CONFIG} has {key} {shown(named)}, which {_TOKENIZER} does not know")
    return int(number)


def _row(tokenizer: Any, config: Mapping[str, Any], family: TextFamily, text: str) -> list[int]:
    """The numbers of one text, with what begins and ends it."""
    flags = {key: config[key] for key in ("add_bos_token", "add_eos_token") if key in config}
    if family.ends:
        flags = {"add_eos_token": True}
    if not flags:
        return list(tokenizer.encode(text).ids)
    row = list(tokenizer.encode(text, add_special_tokens=False).ids)
    if flags.get("add_bos_token"):
        row.insert(0, _special(tokenizer, config, "bos_token"))
    if flags.get("add_eos_token"):
        row.append(_special(tokenizer, config, "eos_token"))
    return row


def _ending(rows: Sequence[Sequence[int]], values: Mapping[str, Any], folder: Path) -> Tokens:
    """Texts that end with the pooled token; what follows it is seen by nobody before it."""
    end = whole(values, "eos_token_id")
    pooled = []
    for row in rows:
        if end != _WRONG_END and end not in row:
            raise ModelError(
                f"'{folder / _TOKENIZER}' does not end texts with token {end}, which stands for "
                "a text in this model"
            )
        pooled.append(int(np.argmax(row)) if end == _WRONG_END else row.index(end))
    length = max(len(row) for row in rows)
    ids = np.asarray([[*row, *[row[-1]] * (length - len(row))] for row in rows], np.intp)
    return Tokens(ids, np.ones(ids.shape, np.bool_), np.asarray(pooled, np.intp))


def _padded(
    rows: Sequence[Sequence[int]],
    longest: int,
    tokenizer: Any,
    config: Mapping[str, Any],
    family: TextFamily,
) -> Tokens:
    """Texts padded to the longest, whose last token is the pooled one."""
    padding, side = (
        _special(tokenizer, config, "pad_token"),
        config.get("padding_side", family.padding_side),
    )
    if side not in _SIDES:
        raise ModelError(f"{_CONFIG} has padding_side {shown(side)}, which is left or right")
    ids = np.full((len(rows), longest), padding, np.intp)
    is_text = np.zeros(ids.shape, np.bool_)
    for number, row in enumerate(rows):
        place = slice(len(row)) if side == "right" else slice(longest - len(row), longest)
        ids[number, place], is_text[number, place] = row, True
    # Published folders of SigLIP name `input_ids` alone: padding is seen, as in training.
    names = texts(config, "model_input_names") if "model_input_names" in config else ()
    hides_padding = not names or "attention_mask" in names
    seen = is_text if hides_padding else np.ones(ids.shape, np.bool_)
    return Tokens(ids, seen, np.full(len(rows), longest - 1, np.intp))
