"""Two runs of the tests at once never share a ROS domain. Needs no ROS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ros import rig

OTHER = """
import pathlib, sys
from tests.ros import rig
rig.LOCKS = pathlib.Path(sys.argv[1])
print(*[rig.take_domain() for _ in range(60)], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A process that holds 60 domains; the locks are this test's, so that it takes no other run's."""
    monkeypatch.setattr(rig, "LOCKS", tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], env=environment, text=True, **pipes) as process:
        yield process
        process.kill()


def test_two_runs_share_no_domain(other_run: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run's domains are free again, and a shell's own domain is never taken."""
    assert other_run.stdout is not None
    theirs = set(map(int, other_run.stdout.readline().split()))
    monkeypatch.setenv("ROS_DOMAIN_ID", str(min(set(rig.DOMAINS) - theirs - set(rig._held))))
    ours, held = [], set(rig._held)
    try:
        ours += [rig.take_domain() for _ in range(len(rig.DOMAINS) - len(held | theirs) - 1)]
        with pytest.raises(RuntimeError, match="all 101 ROS domains are taken"):
            rig.take_domain()
        assert len(theirs) == 60 and ours and len(ours) == len(set(ours))
        assert not theirs & set(ours) and int(os.environ["ROS_DOMAIN_ID"]) not in ours
        other_run.kill()
        other_run.wait(10)
        assert rig.take_domain() in theirs
    finally:
        for domain in [*ours, *theirs]:
            rig.leave_domain(domain)
