"""Speak HTTP, allocate ports, and parse network endpoints."""
