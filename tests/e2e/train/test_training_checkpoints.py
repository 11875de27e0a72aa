"""Training checkpoints as scripts leave them: names, averages, heads and what lies beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.torch_files import Opcodes, save_torch, timm_weights
from vitedge.errors import ModelError
from vitedge.importers import Imported, ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)
NAMESPACE = Opcodes(b"cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrF0.1\nsb")


def read(path: Path, **options: Any) -> Imported:
    return read_model(path, ImportOptions(heads=2, **options))


def logits(imported: Imported) -> np.ndarray:
    return np.asarray(forward(imported.network, PIXELS))


@pytest.fixture(scope="module")
def plain_logits(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return logits(read(save_torch(tmp_path_factory.mktemp("plain") / "a.pth", timm_weights())))


def below(prefix: str, weights: dict[str, np.ndarray]) -> dict[str, Any]:
    return {prefix + name: array for name, array in weights.items()}


WEIGHTS = timm_weights()
LOSS = {"criterion.weight": np.ones(5, np.float32), "train_acc.tp": np.zeros(5, np.float32)}
SAME_MODEL = {
    "compiled": below("_orig_mod.", WEIGHTS),
    "compiled and parallel": {"model": below("module._orig_mod.", WEIGHTS)},
    "parallel and compiled": {"model": below("_orig_mod.module.", WEIGHTS)},
    "blocks compiled one by one": {
        name.replace(".attn.", "._orig_mod.attn."): array for name, array in WEIGHTS.items()
    },
    "lightning": {"epoch": 1, "state_dict": below("model.", WEIGHTS), "hyper_parameters": {}},
    "lightning with losses": {"state_dict": below("model.", WEIGHTS) | LOSS},
    "nested names": {"state_dict": below("net.backbone.", WEIGHTS)},
    "averaged": {"n_averaged": np.array(5)} | below("module.", WEIGHTS),
    "other keys": {"model_state_dict": WEIGHTS, "optimizer_state_dict": {"state": {0: {}}}},
    "deep keys": {"trainer": {"network": WEIGHTS}},
    "namespace": {"state_dict": WEIGHTS, "args": NAMESPACE, "best": Opcodes(b"cnumpy\nfloat64\n")},
    "namespace in the same dictionary": WEIGHTS | {"args": NAMESPACE},
    "config of other classes": {
        "cfg": Opcodes(b"comegaconf\nDictConfig\n)\x81}(S'a'\nI1\nub"),
        "model": WEIGHTS,
        "seen": Opcodes(b"\x8f(I1\nI2\n\x90"),
    },
    "sequential head": {name.replace("head.", "head.1."): array for name, array in WEIGHTS.items()},
}


@pytest.mark.parametrize("name", SAME_MODEL)
def test_what_a_training_script_saved_is_the_model_in_it(
    name: str, tmp_path: Path, plain_logits: np.ndarray
) -> None:
    imported = read(save_torch(tmp_path / "last.ckpt", SAME_MODEL[name]))
    np.testing.assert_array_equal(logits(imported), plain_logits)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    imported = read(save_torch(tmp_path / "a.ckpt", SAME_MODEL["lightning with losses"]))
    assert imported.path == "by name: timm, left out: criterion.weight, train_acc.tp"


def test_what_may_be_a_part_of_the_model_is_left_out_only_when_the_user_says_so(
    tmp_path: Path, plain_logits: np.ndarray
) -> None:
    beside = {"normalize.mean": np.zeros(3, np.float32)}
    path = save_torch(tmp_path / "a.ckpt", {"state_dict": below("model.", WEIGHTS) | beside})
    with pytest.raises(ModelError, match=r"normalize\.mean.*give --weights state_dict/model$"):
        read(path)
    imported = read(path, weights="state_dict/model")
    np.testing.assert_array_equal(logits(imported), plain_logits)


def test_of_raw_and_averaged_weights_the_choice_is_said_and_the_users(tmp_path: Path) -> None:
    average = {name: array * np.float32(1.1) for name, array in WEIGHTS.items()}
    alone = save_torch(tmp_path / "average.pth", average)
    for content in (
        {"model": WEIGHTS, "model_ema": average},
        {"state_dict": below("net.", WEIGHTS) | below("ema.module.", average)},
        {"model": WEIGHTS, "ema": {"shadow": average}},
    ):
        path = save_torch(tmp_path / "both.pth", content)
        taken = read(path)
        assert "averaged weights" in taken.path
        assert "--weights raw takes" in taken.path
        for weights in (None, "ema"):
            np.testing.assert_array_equal(logits(read(path, weights=weights)), logits(read(alone)))
        raw = read(path, weights="raw")
        assert not np.array_equal(logits(raw), logits(taken))


def test_one_of_several_models_is_named(tmp_path: Path) -> None:
    content = {"student": WEIGHTS, "teacher": timm_weights(seed=1)}
    path = save_torch(tmp_path / "two.pth", content)
    with pytest.raises(ModelError, match=r"several models \('student', 'teacher'\).* --weights"):
        read(path)
    assert "weights 'teacher'" in read(path, weights="teacher").path
    with pytest.raises(ModelError, match="no model 'pupil'"):
        read(path, weights="pupil")
    with pytest.raises(ModelError, match="no average of weights alone"):
        read(path, weights="ema")


def test_two_names_of_one_module_are_one_model(tmp_path: Path, plain_logits: np.ndarray) -> None:
    content = {"state_dict": below("model.", WEIGHTS) | below("alias.", WEIGHTS)}
    imported = read(save_torch(tmp_path / "a.ckpt", content), weights=None)
    np.testing.assert_array_equal(logits(imported), plain_logits)


def test_a_tensor_of_another_kind_in_the_model_is_refused_by_its_name(tmp_path: Path) -> None:
    odd = {"norm.weight": Opcodes(b"ctorch._utils\n_rebuild_qtensor\n)R")}
    path = save_torch(tmp_path / "a.pth", WEIGHTS | odd)
    with pytest.raises(ModelError, match=r"'norm\.weight' in .* is a 'torch\._utils\._rebuild_q"):
        read(path)


def test_a_whole_model_is_refused_and_says_what_to_save(tmp_path: Path) -> None:
    model = Opcodes(b"ctimm.models.vision_transformer\nVisionTransformer\n)\x81}b")
    with pytest.raises(ModelError, match=r"holds 'timm\.models.*Save the weights alone"):
        read(save_torch(tmp_path / "a.pth", model))


def test_the_layers_of_a_head_are_joined_by_what_the_user_says(tmp_path: Path) -> None:
    weights = timm_weights(head=("head.0",))
    weights |= {"head.3.weight": np.eye(5, dtype=np.float32), "head.3.bias": np.ones(5, np.float32)}
    path = save_torch(tmp_path / "a.pth", weights)
    with pytest.raises(ModelError, match="give --head-activation"):
        read(path)
    one_layer = timm_weights(head=("head",))
    wanted = logits(read(save_torch(tmp_path / "b.pth", one_layer)))
    found = logits(read(path, head_activation=Activation.RELU))
    np.testing.assert_allclose(found, np.maximum(wanted, 0) + 1, atol=1e-5)


def test_a_norm_before_the_head_is_read(tmp_path: Path) -> None:
    weights = timm_weights(head=("head.1",))
    weights |= {"head.0.weight": np.full(16, 2, np.float32), "head.0.bias": np.ones(16, np.float32)}
    imported = read(save_torch(tmp_path / "a.pth", weights))
    assert imported.network.classes == 5


def test_leftovers_are_still_refused(tmp_path: Path) -> None:
    odd = {"blocks.0.adapter.weight": np.zeros(3, np.float32)}
    with pytest.raises(ModelError, match=r"no place .*adapter\.weight"):
        read(save_torch(tmp_path / "a.pth", below("module.", WEIGHTS | odd)))


# --- LoRA -----------------------------------------------------------------------------------------


def adapter(folder: Path, arrays: dict[str, np.ndarray], **config: Any) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir()
    save_file(
        {f"base_model.model.{name}": np.ascontiguousarray(array) for name, array in arrays.items()},
        folder / "adapter_model.safetensors",
    )
    values = {"peft_type": "LORA", "lora_alpha": 8, "r": 2, "base_model_name_or_path": "org/vit"}
    (folder / "adapter_config.json").write_text(json.dumps(values | config))
    return folder


def factors(seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "blocks.1.attn.qkv.lora_A.weight": rng.standard_normal((2, 16)).astype(np.float32),
        "blocks.1.attn.qkv.lora_B.weight": rng.standard_normal((48, 2)).astype(np.float32),
        "head.weight": rng.standard_normal((3, 16)).astype(np.float32),
        "head.bias": rng.standard_normal(3).astype(np.float32),
    }


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 8 / 2),
        ({"use_rslora": True}, 8 / 2**0.5),
        ({"alpha_pattern": {"attn.qkv": 3}}, 3 / 2),
    ],
)
def test_an_adapter_is_merged_into_its_base(
    config: dict[str, Any], scale: float, tmp_path: Path
) -> None:
    parts = factors()
    folder = adapter(tmp_path / "adapter", parts, **config)
    base = save_torch(tmp_path / "base.pth", WEIGHTS)
    merged = dict(WEIGHTS)
    product = parts["blocks.1.attn.qkv.lora_B.weight"] @ parts["blocks.1.attn.qkv.lora_A.weight"]
    merged["blocks.1.attn.qkv.weight"] = (
        WEIGHTS["blocks.1.attn.qkv.weight"] + np.float32(scale) * product
    )
    merged |= {name: parts[name] for name in ("head.weight", "head.bias")}
    wanted = logits(read(save_torch(tmp_path / "merged.pth", merged)))
    imported = read(folder, base=base)
    np.testing.assert_allclose(logits(imported), wanted, atol=1e-5)
    assert imported.path == "by name: timm, LoRA of 'adapter' merged"


def test_an_adapter_alone_asks_for_its_base(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", factors())
    with pytest.raises(ModelError, match=r"'org/vit'.* give that model's folder or file with --ba"):
        read(folder)


@pytest.mark.parametrize(
    ("arrays", "config", "message"),
    [
        ({}, {"peft_type": "IA3"}, "'IA3'.*merge_and_unload"),
        ({}, {"use_dora": True}, "use_dora.*merge_and_unload"),
        ({}, {"init_lora_weights": "pissa"}, "pissa.*merge_and_unload"),
        ({}, {"alpha_pattern": {"(a+)+": 3}}, "not a plain name"),
        ({"blocks.9.lora_A.weight": 0, "blocks.9.lora_B.weight": 0}, {}, "not of .*which lacks"),
        ({"blocks.1.attn.qkv.lora_B.bias": 0}, {}, "cannot be merged"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused(
    arrays: dict[str, int], config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    more = {name: np.ones((2, 2), np.float32) for name in arrays}
    folder = adapter(tmp_path / "adapter", factors() | more, **config)
    with pytest.raises(ModelError, match=message):
        read(folder, base=save_torch(tmp_path / "base.pth", WEIGHTS))


def test_an_adapter_is_not_merged_into_what_is_no_checkpoint(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", factors())
    (tmp_path / "base.txt").write_text("nothing")
    with pytest.raises(ModelError, match="is not a checkpoint of timm"):
        read(folder, base=tmp_path / "base.txt")
