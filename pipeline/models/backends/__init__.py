"""What runs a network on a device."""
