"""The purpose of an artefact: its format, its precision, the runtime and device that run it."""
