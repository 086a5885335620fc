"""Networks: they know shapes, and nothing of noise, losses or data."""
