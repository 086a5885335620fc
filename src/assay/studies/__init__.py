"""What needs two laboratories at once: guidance, where the rules of the data are known."""
