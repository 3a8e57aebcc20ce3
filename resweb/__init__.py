"""The web page over any number of Redis servers; `resweb.app:create_app` makes it."""
