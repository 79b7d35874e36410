"""Whether a plugin may have something to say, without the time that loading plugins takes."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

_GROUP = "decentraspace.plugins"


def any_names(hook: bytes, directory: str, disabled: tuple[str, ...] = ()) -> bool:
    """Whether the source of an installed plugin, or of one in `directory`, has the name of a hook in it. Those
    that are `disabled` are not looked at.

    True also for what cannot be found out: then the plugins must be asked.
    """
    files = list(Path(directory).expanduser().glob("*.py")) if directory else []
    try:
        for point in metadata.entry_points(group=_GROUP):
            if point.name not in disabled:
                files += _sources(point.module.partition(".")[0])
        return any(hook in file.read_bytes() for file in files)
    except Exception:  # noqa: BLE001 - damaged metadata, sources in an archive: loading them says what it is
        return True


def _sources(name: str) -> list[Path]:
    """Of a top-level module or package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return []  # half removed: loading it says so
    if spec.submodule_search_locations:
        return [file for folder in spec.submodule_search_locations for file in Path(folder).rglob("*.py")]
    return [Path(spec.origin or "")]
