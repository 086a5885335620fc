"""Side-by-side measurements, saved as rows: ``python -m bench --out DIR``."""
