"""Serve a verifier over HTTP: the routes, one owner of the model, limits, metrics, and the log of scores."""
