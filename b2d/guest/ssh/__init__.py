"""Reach the guest over SSH."""
