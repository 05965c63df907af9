"""alih moves a live shop to another back end while shoppers keep buying, and proves it."""

__version__ = "0.1.0"
