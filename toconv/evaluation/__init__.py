"""What is measured of a compressor on pictures that its training did not see, the same for trials and baselines."""
