"""Looks inside a model's file or an artefact, and finds where the two part."""
