"""The shapes of a prediction: ensembles, measures, meshes and their files. No torch."""
