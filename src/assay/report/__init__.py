"""Reads Runs, never recomputes: tables, figures, pages."""
