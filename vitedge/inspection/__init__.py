"""What is inside a model's file or an artefact, and where the two part."""
