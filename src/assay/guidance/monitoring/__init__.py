"""How wrong a denoiser is, from held-out samples alone, and the proof of it."""
