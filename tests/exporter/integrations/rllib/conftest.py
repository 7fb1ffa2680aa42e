"""The cases import RLlib: they are collected only where it is, beside its library folder."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("ray") else ["cases"]
