"""Scores of pairs, and what they are worth."""
