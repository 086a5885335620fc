"""Training: one loop that learns anything with a loss, and what it needs to stop and go on."""
