"""`alih bench`: how fast the engine is beside what bounds it and beside its peers, on this machine, in one run."""
