"""One training: losses, the loop, what of it lies on the disk, what identifies it."""
