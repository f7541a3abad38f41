"""Tests of b2d.host."""
