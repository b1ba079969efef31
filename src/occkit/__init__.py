"""occkit: cameras in, labelled 3D occupancy out."""

__version__ = "0.1.0"

__all__ = ["__version__"]
