"""Embed recordings with PyTorch or onnxruntime."""
