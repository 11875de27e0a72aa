"""timm's families, each by its smallest model, made smaller where its sizes are arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reference.zoo.family import MEAN, STD, Family, Source

Sizes = dict[str, Any]

_CLASSES = 10
_BLOCKS: Sizes = {"embed_dim": 192, "depth": 2, "num_heads": 3}
_AT_96: Sizes = {"img_size": 96, **_BLOCKS}
_AT_84: Sizes = {"img_size": 84, **_BLOCKS}
_STAGES: Sizes = {
    "img_size": 64,
    "embed_dim": 32,
    "depths": (1, 2, 1, 1),
    "num_heads": (1, 2, 4, 8),
}

_FAMILIES: dict[str, tuple[str, int, Sizes]] = {
    "vit": ("vit_tiny_patch16_224", 96, _AT_96),
    "deit": ("deit_tiny_patch16_224", 96, _AT_96),
    "deit_distilled": ("deit_tiny_distilled_patch16_224", 96, _AT_96),
    "deit3": ("deit3_small_patch16_224", 96, _AT_96),
    "dinov2": ("vit_small_patch14_dinov2", 84, _AT_84),
    "dinov2_registers": ("vit_small_patch14_reg4_dinov2", 84, _AT_84),
    "dinov2_swiglu": ("vit_giant_patch14_dinov2", 84, _AT_84),
    "dinov3": ("vit_small_patch16_dinov3_qkvb", 96, _AT_96),
    "rope": ("vit_small_patch16_rope_224", 96, _AT_96),
    "rope_mixed": ("vit_small_patch16_rope_mixed_224", 96, _AT_96),
    "rope_ape": ("vit_small_patch16_rope_ape_224", 96, _AT_96),
    "rope_mixed_ape": ("vit_small_patch16_rope_mixed_ape_224", 96, _AT_96),
    "rope_registers": ("vit_medium_patch16_rope_reg1_gap_256", 96, _AT_96),
    "dinov3_swiglu": ("vit_small_plus_patch16_dinov3_qkvb", 96, _AT_96),
    "dinov3_no_key_bias": ("vit_small_patch16_dinov3", 96, _AT_96),
    "lingbot": ("vit_small_patch16_lingbot", 96, _AT_96),
    "sapiens2": ("vit_base_patch16_sapiens2", 96, {"num_kv_heads": (3, 1), **_AT_96}),
    "tips": ("vit_base_patch14_reg1_tipsv2", 84, _AT_84),
    "intern": ("vit_intern300m_patch14_448", 84, _AT_84),
    "radio": ("vit_base_patch16_radio_v3", 96, _AT_96),
    "aim": ("aimv2_large_patch14_224", 84, _AT_84),
    "hybrid": ("vit_tiny_r_s16_p8_224", 64, {"img_size": 64, **_BLOCKS}),
    "hybrid_mci": ("vit_base_mci_224", 96, {"img_size": 96, "depth": 2}),
    "perception_language": ("vit_pe_lang_large_patch14_448", 84, _AT_84),
    "siglip_map": ("vit_so150m_patch16_reg4_map_256", 96, {"mlp_ratio": 4, **_AT_96}),
    "siglip_gap": ("vit_base_patch16_siglip_gap_224", 96, _AT_96),
    "siglip2": ("vit_base_patch16_siglip_224.v2_webli", 96, _AT_96),
    "clip": ("vit_base_patch16_clip_224", 96, _AT_96),
    "clip_quickgelu": ("vit_base_patch16_clip_quickgelu_224", 96, _AT_96),
    "perception_core": ("vit_pe_core_tiny_patch16_384", 96, _AT_96),
    "perception_spatial": ("vit_pe_spatial_tiny_patch16_512", 96, _AT_96),
    "relative_position_norm": ("vit_relpos_small_patch16_rpn_224", 96, _AT_96),
    "relative_position": ("vit_relpos_small_patch16_224", 96, _AT_96),
    "sr_relative_position": ("vit_srelpos_small_patch16_224", 96, _AT_96),
    "parallel": ("vit_small_patch16_18x2_224", 96, _AT_96),
    "differential": ("vit_dpwee_patch16_reg1_gap_256", 96, _AT_96),
    "little": ("vit_dwee_patch16_reg1_gap_256", 96, _AT_96),
    "qk_norm": ("vit_wee_patch16_reg1_gap_256", 96, _AT_96),
    "xp": ("vit_huge_patch14_xp_224", 84, _AT_84),
    "flexivit": ("flexivit_small", 96, _AT_96),
    "naflexvit": ("naflexvit_base_patch16_gap", 96, _BLOCKS),
    "naflexvit_map": ("naflexvit_so150m2_patch16_reg1_map", 96, {"mlp_ratio": 4, **_BLOCKS}),
    "naflexvit_siglip": ("naflexvit_base_patch16_siglip", 96, _BLOCKS),
    "eva": ("eva_giant_patch14_224", 84, _AT_84),
    "eva02": ("eva02_tiny_patch14_224", 84, _AT_84),
    "eva02_clip": ("eva02_base_patch16_clip_224", 96, _AT_96),
    "beit": ("beit_base_patch16_224", 96, _AT_96),
    "beitv2": ("beitv2_base_patch16_224", 96, _AT_96),
    "beit3": ("beit3_base_patch16_224", 96, _AT_96),
    "cait": ("cait_xxs24_224", 96, _AT_96),
    "xcit": ("xcit_nano_12_p16_224", 96, _AT_96),
    "convit": ("convit_tiny", 96, {"img_size": 96, "depth": 2, "local_up_to_layer": 1}),
    "sam": (
        "samvit_base_patch16_224",
        96,
        {"window_size": 3, "global_attn_indexes": (1,), **_AT_96},
    ),
    "swin": ("swin_tiny_patch4_window7_224", 64, {"window_size": 4, **_STAGES}),
    "swinv2": ("swinv2_tiny_window8_256", 64, {"window_size": 8, **_STAGES}),
    "swinv2_cr": ("swinv2_cr_tiny_ns_224", 64, {"window_size": 4, **_STAGES}),
    "swin_s3": ("swin_s3_tiny_224", 64, {"window_size": (4, 4, 4, 2), **_STAGES}),
    "levit": ("levit_128s", 224, {}),
    "levit_convolutional": ("levit_conv_128s", 224, {}),
    "tiny_vit": ("tiny_vit_5m_224", 224, {"embed_dims": (32, 64, 160, 320)}),
    "mobilevit": ("mobilevit_xxs", 128, {}),
    "mobilevitv2": ("mobilevitv2_050", 128, {}),
    "efficientvit_mit": ("efficientvit_b0", 64, {}),
    "efficientvit_large": ("efficientvit_l1", 64, {}),
    "efficientvit_msra": ("efficientvit_m0", 224, {}),
    "fastvit": ("fastvit_sa12", 128, {"layers": (1, 1, 1, 1), "embed_dims": (24, 48, 96, 192)}),
    "fastvit_convolutional": ("fastvit_t8", 128, {"layers": (1, 1, 1, 1)}),
    "mobileclip": ("fastvit_mci0", 128, {"layers": (1, 1, 1, 1), "embed_dims": (24, 48, 96, 192)}),
    "efficientformer": ("efficientformer_l1", 224, {}),
    "efficientformerv2": ("efficientformerv2_s0", 224, {}),
    "pvt_v2": ("pvt_v2_b0", 64, {"depths": (1, 1, 1, 1)}),
    "hiera": ("hiera_tiny_224", 224, {"embed_dim": 32}),
    "hiera_absolute": ("hiera_small_abswin_256", 256, {"embed_dim": 32}),
    "hiera_detector": ("sam2_hiera_tiny", 128, {}),
    "maxvit": ("maxvit_nano_rw_256", 128, {"img_size": 128}),
    "maxxvit_rmlp": ("maxvit_rmlp_pico_rw_256", 128, {"img_size": 128}),
    "coatnet": ("coatnet_nano_rw_224", 64, {"img_size": 64}),
    "coat": ("coat_tiny", 64, {"img_size": 64}),
    "coat_lite": ("coat_lite_tiny", 64, {"img_size": 64}),
    "caformer": ("caformer_s18", 64, {}),
    "botnet": ("botnet26t_256", 128, {"img_size": 128}),
    "iformer": ("iformer_t", 224, {}),
    "lowformer": ("lowformer_b0", 64, {}),
    "mvitv2": ("mvitv2_tiny", 64, {"img_size": 64}),
    "crossvit": ("crossvit_tiny_240", 240, {}),
    "twins_svt": ("twins_svt_small", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    "twins_pcpvt": ("twins_pcpvt_small", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    "pit": ("pit_ti_224", 224, {"depth": (1, 1, 1)}),
    "nest": ("nest_tiny", 224, {}),
    "visformer": ("visformer_tiny", 224, {}),
    "davit": ("davit_tiny", 64, {"embed_dims": (32, 64, 96, 128), "num_heads": (1, 2, 3, 4)}),
    "gcvit": ("gcvit_xxtiny", 224, {}),
    "edgenext": ("edgenext_xx_small", 128, {}),
    "vitamin": ("vitamin_small_224", 96, {"img_size": 96}),
    "nextvit": ("nextvit_small", 64, {}),
    "repvit": ("repvit_m0_9", 64, {}),
    "shvit": ("shvit_s1", 224, {}),
    "swiftformer": ("swiftformer_xs", 224, {}),
    "mobilenetv4_hybrid": ("mobilenetv4_hybrid_medium", 128, {}),
    "focalnet": ("focalnet_tiny_srf", 64, {}),
    "poolformer": ("poolformer_s12", 64, {}),
    "volo": ("volo_d1_224", 224, {}),
    "tnt": ("tnt_s_patch16_224", 224, {"depth": 2}),
    "mixer": ("mixer_s16_224", 96, {"img_size": 96}),
}

_HEADS_JOINED = ("crossvit", "volo")
"""Families whose logits are made of two heads', so that they are said to be logits."""

_BY_NAME = ("vision_transformer", "deit", "eva", "beit", "swin_transformer", "swin_transformer_v2")
"""Modules of timm whose models are read by name."""


def _make(family: Family, folder: Path) -> Source:
    import timm
    from safetensors.torch import save_file

    from reference.zoo.torch_making import centre, export, liven, write_expected

    timm.layers.set_fused_attn(False)  # whose flag the tracing exporter cannot follow
    name = family.name.partition(".")[2]
    sizes = _FAMILIES[name][2]
    model = timm.create_model(family.architecture, num_classes=_CLASSES, **sizes).eval()
    liven(model, family.size)
    centre(model, model.get_classifier(), family.size)
    write_expected(model, family.size, folder)
    export(model, family.size, folder / "model.onnx", "logits")
    by_name = type(model).__module__.rpartition(".")[2] in _BY_NAME
    if by_name:
        weights = {key: each.contiguous().clone() for key, each in model.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
    options: dict[str, Any] = {"image_size": family.size, "mean": MEAN, "std": STD}
    architecture = family.architecture.partition(".")[0]
    if "swin" in architecture:  # whose windows a config.json beside the weights tells
        told = {"architecture": architecture, "num_classes": _CLASSES, "model_args": sizes}
        (folder / "config.json").write_text(json.dumps(told), "utf-8")
    else:
        options["architecture"] = architecture
    if isinstance(sizes.get("num_heads"), int):
        options["heads"] = sizes["num_heads"]
    return Source(
        family.architecture,
        family.size,
        by_name="model.safetensors" if by_name else None,
        options=options if by_name else {},
        traced="model.onnx",
        told={"task": "classes"} if name in _HEADS_JOINED else {},
        parameters=sum(each.numel() for each in model.parameters()),
    )


FAMILIES = tuple(
    Family(f"timm.{name}", architecture, (size, size), _make)
    for name, (architecture, size, _) in _FAMILIES.items()
)
