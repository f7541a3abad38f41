"""This computer: what its kernel offers to the programs that b2d starts."""
