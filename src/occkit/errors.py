"""The one exception family of the package."""


class OcckitError(Exception):
    """Something a user can put right; the message names the file or argument, what was expected and the remedy."""


class DataError(OcckitError):
    """A file or folder is missing, damaged or not what its name says."""

    def __init__(self, path: object, problem: str, remedy: str = "") -> None:
        self.path = str(path)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{path}: {problem}" + (f" -- {remedy}" if remedy else ""))

    def __reduce__(self) -> "tuple[type[DataError], tuple[str, str, str]]":
        # A worker's error reaches the process that asked: an exception is unpickled with the arguments of its __init__.
        return type(self), (self.path, self.problem, self.remedy)


class ConfigError(OcckitError):
    """A recipe, option or argument has a value that cannot work."""
