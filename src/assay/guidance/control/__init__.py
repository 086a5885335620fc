"""Guidance laws that follow sigma and state, and the study of them."""
