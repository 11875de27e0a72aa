"""Makes artefacts of a model: read, rewrite, quantize, emit, check, publish."""
