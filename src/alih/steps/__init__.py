"""The runbook's steps: coroutines on ports alone."""
