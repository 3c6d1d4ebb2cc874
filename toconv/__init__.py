"""toconv: which compression of a vision transformer's tokens is worth it, answered by measurement."""

__version__ = "0.1.0"
