"""Attacks on b2d, one file for each kind; each must fail to harm."""
