"""A network in Keras: to train, to save and to load."""
