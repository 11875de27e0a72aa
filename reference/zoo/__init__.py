"""The smallest model of every family of vision transformers, and what comes of each.

``python -m reference.zoo make FOLDER`` makes them with random weights, where their libraries are
installed; ``python -m reference.zoo measure FOLDER`` reads, converts and compares them, where
vitedge is. The environments may be two, and the second needs no torch. Both are resumable: what
lies in the folder is not made again. ``python -m reference.zoo table FOLDER`` writes the table of
``docs/models.md``.
"""
