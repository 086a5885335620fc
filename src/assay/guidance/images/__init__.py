"""Learned denoisers of real digits: data, models, paths, quality, the study."""
