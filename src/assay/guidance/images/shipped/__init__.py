"""Image models that come with the package: NAME.safetensors with NAME.json; see `image_models`."""
