"""The story of `make demo`: a world is started, its shops are moved under load, and the end is audited."""
