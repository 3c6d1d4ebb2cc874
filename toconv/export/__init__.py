"""A trained compressor as others use it."""
