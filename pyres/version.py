"""Which pyres this is; `pyproject.toml` reads it from here."""

__version__ = "2.0.0"
