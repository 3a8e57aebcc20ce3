"""The tests of pyres, in folders named for what they need."""
