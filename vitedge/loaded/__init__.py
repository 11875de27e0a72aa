"""Loaded artefacts: what they share, and one class for each meaning of their output."""
