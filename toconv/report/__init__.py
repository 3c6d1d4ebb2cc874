"""What a sweep has shown: a page, and the same figures for a paper."""
