"""Read recordings, find speech in them, change them, and make synthetic ones."""

from ..errors import moved_names

__getattr__ = moved_names(__name__, f"{__name__}.loading")
