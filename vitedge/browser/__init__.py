"""A browser as a machine: Chromium without a window, and what npm brings to compute in it."""
