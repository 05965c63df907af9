"""The demo's back ends: real HTTP services on databases of their own. None of them knows alih."""
