"""Families: network + corruption = generator, with three verbs: loss, sample, complete."""
