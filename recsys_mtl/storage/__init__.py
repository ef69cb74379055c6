"""Places of files: local directories and object stores, spoken to alike through ``pyarrow.fs``."""

from recsys_mtl.storage.location import Location, Place, absolute, locate

__all__ = ["Location", "Place", "absolute", "locate"]
