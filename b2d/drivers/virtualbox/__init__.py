"""Drive VirtualBox through pyvbox."""
