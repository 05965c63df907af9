"""The demo world: a live social shop that is moved to a marketplace, and the proof that nobody noticed."""
