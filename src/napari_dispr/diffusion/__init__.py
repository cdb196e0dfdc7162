"""The generative model of shapes: network, processes, samplers. Knows neither napari nor image files."""
