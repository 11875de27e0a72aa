"""transformers' models over patches: what their parts are called, and how they end."""
