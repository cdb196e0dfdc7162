"""Training shape models and their rivals."""
