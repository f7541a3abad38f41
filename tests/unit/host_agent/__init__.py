"""Tests of single modules, without any process."""
