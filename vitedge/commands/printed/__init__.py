"""The commands' output for people."""
