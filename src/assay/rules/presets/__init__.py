"""Functions that return a whole recipe for a preset; one module a kind of family."""
