"""From a model to artefacts: read, rewrite, quantize, emit, check, publish."""
