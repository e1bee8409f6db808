"""Recordings: reading, recognising speech, changing and making them."""
