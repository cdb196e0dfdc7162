"""Evaluation: errors against known shapes, and experiments on whole data sets."""
