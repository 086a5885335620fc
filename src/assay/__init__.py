"""assay: tests a generative model before anyone relies on it."""
