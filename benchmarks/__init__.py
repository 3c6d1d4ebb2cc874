"""Side-by-side measurements. `make bench` runs all of them; each module runs alone, too: python -m benchmarks.NAME."""
