"""Payments: notices are kept and delivered, and the provider is asked."""
