"""The generic path: what is not a vision transformer, through each format's own converter.

A Swin, a MobileViT, a plain CNN: nothing of ours knows their layers, so the formats' own tools
convert and quantize them: LiteRT's converter, tf2onnx, OpenVINO's frontends, ONNX Runtime's
quantizer, NNCF. What is added is what those leave to chance: pixels in and logits out as in every
other artefact, constant shapes, the operators that one tool writes and the next cannot read, and
the comparison with the source in its own engine before anything is published.

::

    network             a source as graphs from raw pixels to logits (one class per kind of source)
    model               a network with its preprocessing, its labels and its engine's answers
    onnx_graph, einsum  what is mended in ONNX graphs

The drafts of each format, from any network, are in its folder: ``generic.py``. The loop of
drafting, checking and publishing is ``vitedge.pipeline.generic``.
"""
