"""ONNX artefacts: ``format`` declares them, ``converter`` says which graph, and why."""
