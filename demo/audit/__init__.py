"""The audit at the demo's end: the shoppers' diary against the books of both back ends and of the provider.

It shares nothing with the program that moved the shop, so that the two cannot be wrong in the same way.
"""

from demo.audit.audit import Audit, audit
from demo.audit.books import Keeper, Opening, Stores, opening
from demo.audit.checks import Finding

__all__ = ["Audit", "Finding", "Keeper", "Opening", "Stores", "audit", "opening"]
