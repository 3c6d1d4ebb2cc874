"""The wheel holds conf/ as toconv/conf, where toconv.paths looks for it. The rest is in pyproject.toml."""

from setuptools import find_namespace_packages, find_packages, setup

CONF = ["toconv.conf", *(f"toconv.conf.{name}" for name in find_namespace_packages("conf"))]

setup(packages=[*find_packages(include=["toconv", "toconv.*"]), *CONF], package_dir={"toconv.conf": "conf"})
