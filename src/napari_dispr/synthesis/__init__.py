"""Synthesis: simulated cells, their pictures and fields, and more cells for rare classes."""
