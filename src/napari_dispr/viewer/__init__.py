"""Predictions in napari: layers, files, samples. No widgets; Qt only in opening."""
