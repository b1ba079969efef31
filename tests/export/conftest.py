from systems.conftest import make_sample  # noqa: F401  (a fixture)
