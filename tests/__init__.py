"""The tests of pyres, in folders by what they test or need."""
