"""ROOMS: one file a method, with its config, network, losses and recipes."""
