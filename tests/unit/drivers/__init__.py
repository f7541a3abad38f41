"""Tests of what the drivers make of a machine's description, without a hypervisor."""
