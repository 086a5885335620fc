"""Other people's models: diffusers pipelines as recorded denoisers, guidance laws inside them."""
