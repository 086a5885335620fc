"""Laboratory 1: what guidance really does."""
