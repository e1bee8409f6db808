"""Evaluation: embeddings, scores, error rates."""
