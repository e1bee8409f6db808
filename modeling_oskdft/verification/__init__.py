"""The user's door: two recordings in, one answer out."""
