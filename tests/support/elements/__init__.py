"""Elements that no model of vitedge has."""
