"""Auditing a diffusers pipeline: what is measured, summed up and advised."""
