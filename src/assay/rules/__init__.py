"""Laboratory 2: GenRAVEN, its forty rules, and the measures on them."""
