"""Measure a verifier: its error rates on trials, its size and its time."""
