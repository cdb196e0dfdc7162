"""Which models there are, and the one protocol of all that draws shapes."""
