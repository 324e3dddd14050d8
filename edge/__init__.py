"""The data path of split computing: what runs on a device and on the tail server.

Nothing here imports ``fedsim``, Flower, pandas or (at run time) CompressAI: a device process must
start on a small board.
"""

__version__ = "0.1.0"
