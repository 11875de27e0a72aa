"""A static site that runs an artefact in whatever browser opens it."""
