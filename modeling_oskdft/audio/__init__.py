"""Read recordings, find speech in them, augment them, and make synthetic voices."""

from ..errors import moved_names

__getattr__ = moved_names(__name__, f"{__name__}.loading")
