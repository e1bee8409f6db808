"""Decide whether two recordings have one speaker."""

from ..errors import moved_names

__getattr__ = moved_names(__name__, f"{__name__}.verifier", "modeling_oskdft.audio.speech")
