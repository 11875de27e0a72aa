"""Weight files of every kind as named arrays, read lazily and without running anything in them."""
