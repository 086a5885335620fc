"""Choosing w by a stated criterion, and what the choice is compared with."""
