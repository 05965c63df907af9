"""The report: one page for whoever has to judge a move, from a bundle of evidence and nothing else."""

from alih.report.page import make

__all__ = ["make"]
