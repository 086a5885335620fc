"""Raising w in stages, with rollback: guards, the rule, the log, simulated faults."""
