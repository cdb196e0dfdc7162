"""The window Predict 3D shapes."""
