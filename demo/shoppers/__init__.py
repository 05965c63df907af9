"""The demo's shoppers: real HTTP load through the gateway, each with a diary of what it was told."""

from demo.shoppers.diary import Live, Summary
from demo.shoppers.load import Shoppers
from demo.shoppers.shapes import compare_shapes

__all__ = ["Live", "Shoppers", "Summary", "compare_shapes"]
