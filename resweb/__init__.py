"""The web page for any number of Redis servers; see `resweb.app:create_app`."""

#: The distribution of this package. PyPI's `resweb` 0.1.7, an older page, has the same name.
DISTRIBUTION = "pyres"
