"""Models that come with the package: NAME.safetensors with NAME.json; see `rules.shipping`."""
