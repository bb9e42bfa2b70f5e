"""The version of the package; `./dev wheel` holds it against the build's."""

__version__ = "0.1.0"
