"""ROOMS: one folder a method: its network, its recipes and what it claims."""
