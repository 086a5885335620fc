"""Claims about learning rules, each tested on scaling studies."""
