"""The API of pyres 1.5 as its users know it; runs under pytest and under nosetests."""
