"""A fake system: a tree of files, and programs that say what the test wants."""

from __future__ import annotations

import pytest

from halo.doctor.finding import Unreadable
from halo.doctor.system import System


@pytest.fixture
def system(tmp_path):
    """Returns a function: files by path, programs by command line -> a System that knows nothing else."""

    def make(files=None, programs=None, **options):
        for name, text in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

        def run(command):
            line = " ".join(command)
            if line not in (programs or {}):
                raise Unreadable(f"the program {command[0]!r} is not installed")
            return programs[line]

        options = {"granted_buffer": lambda option, wanted: wanted, "clock_is_synchronised": lambda: True} | options
        return System(tmp_path, run, **options)

    return make
