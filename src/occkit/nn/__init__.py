"""BRICKS: networks that several systems are built from. They know tensors, cameras and grids, and no files."""
