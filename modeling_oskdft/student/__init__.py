"""A student before it is trained."""
