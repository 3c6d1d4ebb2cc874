"""`toconv sweep` on a cluster with two logical GPUs, which it finds running."""

import sys

import ray

from toconv.__main__ import main

if __name__ == "__main__":
    ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False)
    sys.exit(main(["sweep", *sys.argv[1:]]))
