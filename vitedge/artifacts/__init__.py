"""Artefacts: what they say of themselves, and what their integers stand for."""
