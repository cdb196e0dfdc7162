"""Train shape models, and SHAPR for comparison."""
