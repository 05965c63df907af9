"""The contract: `alih.yaml` read, checked against both databases, and compiled to projections.

Knows no database driver: catalogs come in as values.
"""

from alih.contract.checking import check
from alih.contract.compiling import Projections, compile
from alih.contract.drafting import draft
from alih.contract.lineage import LineageRow, lineage
from alih.contract.load import load, load_engine
from alih.contract.problem import Problem
from alih.contract.rehearsing import rehearse

__all__ = [
    "LineageRow",
    "Problem",
    "Projections",
    "check",
    "compile",
    "draft",
    "lineage",
    "load",
    "load_engine",
    "rehearse",
]
