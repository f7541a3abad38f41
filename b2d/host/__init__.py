"""This computer: its files, processes and sockets."""
