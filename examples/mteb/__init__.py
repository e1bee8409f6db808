"""Evaluate a student with MTEB, whose audio tasks (MAEB) compare embeddings of every kind."""
