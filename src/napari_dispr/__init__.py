"""napari-dispr: ensembles of 3D cell shapes from one 2D microscopy picture and its segmentation.

The names of the public API are in ``__init__.pyi``. They are loaded when they are first used, so that
``import napari_dispr``, which napari and the command line do at every start, loads neither torch nor Qt nor
napari.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
