"""The machine as far as it can be read: what a time means nothing without."""
