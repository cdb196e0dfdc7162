"""The napari side, and the only folder that imports Qt: layout, signals, layers. The verbs do the work."""
