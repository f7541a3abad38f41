"""Tests of b2d.guest."""
