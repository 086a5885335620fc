"""Core mathematics: no files, no configuration, no training."""
