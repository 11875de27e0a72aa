"""What an artefact is made for: its format, its precision, the runtime and device that run it."""
