"""Tests of the drivers without a hypervisor."""
