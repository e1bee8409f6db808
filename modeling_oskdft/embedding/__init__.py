"""Embeddings of recordings, by PyTorch or onnxruntime."""
