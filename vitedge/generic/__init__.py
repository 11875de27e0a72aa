"""The generic path: what is no Vision Transformer, through each format's own converter."""
