"""Publish on the Hub: the card of a model, and the upload of models, datasets and Spaces."""
