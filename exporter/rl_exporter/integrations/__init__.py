"""Callbacks for other trainers, imported on demand: each module needs the library that it is named after."""
