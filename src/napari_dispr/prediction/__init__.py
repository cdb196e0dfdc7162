"""Predicting: from a picture and its labels to the ensembles, and what is done with them."""
