"""A verifier outside Python."""
