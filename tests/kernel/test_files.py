"""A file of a container that is damaged for a while, and comes back as it was, whatever others do meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from bounceback.types.files import Spoil
from bounceback.types.plan import Order
from bounceback.types.told import Told
from tests.kernel.lab import Agent, Lab, plan
from tests.kernel.pods import Inside, container, on, until
from tests.kernel.test_node_pod import node

__all__ = ["node"]
TEXT = "a line of text\n" * 100
READ = "open('/data/file', errors='replace').read()"


def spoiling(where: Inside, damage: str, **fields: object) -> Order:
    act = Spoil(path="/data/file", damage=damage, name="bad", **fields)  # type: ignore[arg-type]
    return on(where, act)


def written(where: Inside) -> None:
    where.say(f"open('/data/file', 'w').write({TEXT!r}) and os.chmod('/data/file', 0o640)")
    where.say("os.utime('/data/file', (1000, 2000))")


def looks(where: Inside) -> str:
    """What of it must come back, but for the time of access."""
    told = "(lambda s: (s.st_ino, s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns, s.st_size))(os.stat('/data/file'))"
    return where.say(told)


def content(where: Inside) -> str:
    return where.say(f"repr({READ})")


def begun(node: Lab, made: Order, guarded: bool = False) -> Agent:
    whole = plan(made, on_node=True, guarded=guarded)
    agent = node.start(whole, where=node.one)
    if guarded:
        node.start(whole, "guard", where=node.one)
    agent.until(Told.IN_FORCE, seconds=60)
    return agent


def stopped(agent: Agent) -> list[str]:
    code, answer = agent.control({"stop": True})
    assert code == 0, answer
    told = next(line for line in agent.end() if line.told is Told.CLEARED)
    seen: list[str] = told.detail.get("seen", [])
    return seen


@pytest.mark.parametrize(
    ("damage", "fields"),
    [("Corrupt", {"percent": 30.0}), ("Truncate", {"keep_bytes": 7}), ("Stale", {}), ("Remove", {})],
    ids=str,
)
def test_a_damaged_file_comes_back_as_it_was(node: Lab, damage: str, fields: dict[str, object]) -> None:
    with container(node, node.target, kind="ext4", user=1234) as app:
        written(app)
        before = looks(app)
        agent = begun(node, spoiling(app, damage, **fields))
        shown = content(app)
        expected = {"Truncate": repr(TEXT[:7]), "Stale": repr(TEXT), "Remove": "No such file or directory"}
        assert shown == expected.get(damage, shown)
        assert (shown != repr(TEXT)) == (damage != "Stale")
        seen = stopped(agent)
        assert seen == ([] if damage == "Remove" else ["it was read meanwhile"])
        assert (looks(app), content(app)) == (before, repr(TEXT))
        assert app.say("[n for n in os.listdir('/data') if n != 'lost+found']") == "['file']"


def test_a_guard_brings_back_what_a_killed_agent_took(node: Lab) -> None:
    with container(node, node.target) as app:
        written(app)
        before = looks(app)
        agent = begun(node, spoiling(app, "Remove"), guarded=True)
        agent.signal(signal.SIGKILL)
        until(lambda: looks(app) == before)


def test_a_file_that_the_target_replaced_itself_stays(node: Lab) -> None:
    with container(node, node.target) as app:
        written(app)
        agent = begun(node, spoiling(app, "Corrupt", percent=50.0))
        app.say("open('/data/mine', 'w').write('mine') and os.rename('/data/mine', '/data/file')")
        assert stopped(agent) == ["the target replaced /data/file meanwhile: its own stays"]
        assert content(app) == "'mine'"
        assert app.say("os.listdir('/data')") == "['file']"


def test_what_the_target_appended_to_a_corrupt_file_stays_and_the_rest_is_right_again(node: Lab) -> None:
    with container(node, node.target) as app:
        written(app)
        agent = begun(node, spoiling(app, "Corrupt", percent=50.0))
        app.say("open('/data/file', 'a').write('more')")
        assert stopped(agent)[1] == "what the target wrote to /data/file meanwhile stays"
        assert content(app) == repr(TEXT + "more")


def test_newer_contents_are_withheld_and_come_to_light_at_the_end(node: Lab) -> None:
    with container(node, node.target) as app:
        written(app)
        agent = begun(node, spoiling(app, "Stale"))
        for number in range(3):
            app.say(f"open('/data/mine', 'w').write('newer {number}') and os.rename('/data/mine', '/data/file')")
            until(lambda: content(app) == repr(TEXT))
        stopped(agent)
        assert content(app) == "'newer 2'"
        assert app.say("os.listdir('/data')") == "['file']"
        assert max(line.hits for line in agent.told) == 4


def test_only_a_file_of_the_target_is_hit(node: Lab) -> None:
    with container(node, node.target) as app:
        (node.folder / "outside").write_text("not yours")
        app.say(f"os.symlink('{node.folder}', '/data/out')")
        app.say("os.symlink('/data/nothing', '/data/link')")
        app.say("os.mkdir('/data/folder')")
        for path, reason in (
            ("/data/out/outside", "NoPath"),
            ("/data/link", "NotAFile"),
            ("/data/nothing", "NoPath"),
            ("/data/folder", "NotAFile"),
            ("/proc/uptime", "NotAVolume"),
        ):
            made = on(app, Spoil(path=path, damage="Remove"))
            agent = node.start(plan(made, on_node=True), where=node.one)
            assert agent.until(Told.REFUSED, seconds=60).detail["reason"] == reason, path
            agent.end()
        assert Path(node.folder, "outside").read_text() == "not yours"
