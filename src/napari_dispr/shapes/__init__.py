"""What comes out of a prediction: ensembles, their measures, meshes. Knows no torch."""
