"""Elements that timm's weights may be of, and that vitedge does not read by name."""

from __future__ import annotations

import re

from vitedge.errors import NotAViTError
from vitedge.importers.reading.tensors import Tensors

_ELEMENTS = {
    r"blocks\.0\.attn\.gate\.": "gated attention",
    r"blocks\.0\.attn\.(lambda_|sub_norm)": "differential attention",
    r"blocks\.0\.attn\.rel_pos_": "decomposed relative positions (SAM, ViTDet)",
    r"(shared_rel_pos|blocks\.0\.attn\.rel_pos)\.": "relative positions out of an MLP or a table",
    r"blocks\.0\.attn\.(gating_param|pos_proj)": "gated positional attention (ConViT)",
    r"blocks\.\d+\.proj\.": "blocks that change the width (Hiera)",
    r"blocks\.0\.attn\.(proj_l|proj_w)\.": "talking heads (CaiT)",
    r"blocks_token_only\.": "class attention (CaiT)",
    r"rel_pos_bias\.": "one relative position bias for all blocks",
    r"patch_embed\.(backbone|proj\.\d|conv)": "a convolutional stem",
    r"attn_pool\.(pos_embed|q_norm|k_norm)": "positions or norms in its attention pooling",
    r"attn_pool\.(?!latent|q\.|kv\.|proj\.|norm\.|mlp\.)": "a pooling other than by a latent query",
    r"decoder_blocks?\.": "a decoder",
}


def refuse_unknown_elements(tensors: Tensors) -> None:
    """Refuses a model by the element that is not known.

    Raises:
        NotAViTError: The model has such an element.
    """
    for pattern, words in _ELEMENTS.items():
        found = sorted(name for name in tensors.names if re.match(pattern, name))
        if found:
            raise NotAViTError(
                f"'{tensors.source}' has {words} ('{found[0]}'), which vitedge does not read by "
                "name: export the model to .onnx"
            )
