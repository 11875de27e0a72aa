"""Images: sets of them, their decoding, their preprocessing and their classes."""
