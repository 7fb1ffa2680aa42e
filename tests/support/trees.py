"""What is in a folder, to compare it before and after."""

from pathlib import Path


def tree(folder):
    """Every file below a folder with its content, and every empty folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
        if path.name != "filler"
    }
