"""Collect logs, and keep secrets out of them."""
