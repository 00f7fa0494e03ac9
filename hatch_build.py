"""What a wheel carries beside the code: manual pages and completions where they are looked for, units."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPLETIONS = {
    "bash": "share/bash-completion/completions/spool",
    "zsh": "share/zsh/site-functions/_spool",
    "fish": "share/fish/vendor_completions.d/spool.fish",
}


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc, type-arg, unused-ignore]
    """Adds files that are made, and those whose place is told by their name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before a wheel is put together."""
        if version == "editable" or self.target_name != "wheel":
            return
        root = Path(self.root)
        shared = build_data["shared_data"]
        for page in (root / "man").iterdir():
            shared[str(page)] = f"share/man/man{page.suffix[1:]}/{page.name}"
        for unit in (root / "units").rglob("*.*"):
            if unit.is_file():
                shared[str(unit)] = f"share/spool/units/{unit.relative_to(root / 'units')}"
        self._made = tempfile.TemporaryDirectory()
        for shell, place in COMPLETIONS.items():
            env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
            command = [sys.executable, "-m", "spool", "completion", shell]
            done = subprocess.run(command, capture_output=True, check=True, cwd=root, env=env)
            path = Path(self._made.name) / shell
            path.write_bytes(done.stdout)
            shared[str(path)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """After it."""
        del version, build_data, artifact_path
        if hasattr(self, "_made"):
            self._made.cleanup()
