"""What the records of a sweep say: pure functions on them. Needs no torch."""
