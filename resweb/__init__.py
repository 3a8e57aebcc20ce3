"""The web page over any number of Redis servers; `resweb.app:create_app` makes it."""

#: What installs this package. An older page has the same name: PyPI's `resweb` 0.1.7.
DISTRIBUTION = "pyres"
