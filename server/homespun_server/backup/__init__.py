"""One file with everything of a server that can't be made again, and a data directory made of it."""
