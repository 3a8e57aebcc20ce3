"""For tools that still ask for it; pyproject.toml holds the metadata."""

from setuptools import setup

setup()
