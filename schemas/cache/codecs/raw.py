"""Plain numbers, as the array's record says."""

from schemas.cache.codec import Mapped


class Raw(Mapped):
    """One uncompressed chunk."""

    name = "raw"


CODEC = Raw()
