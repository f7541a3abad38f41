"""Tests of modules together, with real servers, programs and processes of this host, but no machine."""
