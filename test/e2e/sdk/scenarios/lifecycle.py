"""The Python SDK drives a host: what differs from the JavaScript one is its
transport, so this is short."""
import os

from e2b import CommandExitException, NotFoundException, Sandbox

box = Sandbox.create("base", timeout=300, metadata={"job": "python"}, envs={"WHO": "python"}, request_timeout=120)
try:
    assert box.is_running()
    r = box.commands.run("echo $WHO; whoami; pwd", timeout=120)
    assert r.stdout == "python\nuser\n/home/user\n", r.stdout
    try:
        box.commands.run("exit 3", timeout=120)
        raise AssertionError("a failed command succeeded")
    except CommandExitException as e:
        assert e.exit_code == 3

    box.files.write("a.txt", "hello")
    assert box.files.read("a.txt") == "hello"
    assert [e.name for e in box.files.list(".") if e.name == "a.txt"] == ["a.txt"]
    url = box.download_url("a.txt", use_signature_expiration=60)
    import urllib.request
    assert urllib.request.urlopen(url).read() == b"hello"

    found = Sandbox.list(query=__import__("e2b").SandboxQuery(metadata={"job": "python"})).next_items()
    assert [s.sandbox_id for s in found] == [box.sandbox_id]
    info = box.get_info()
    assert info.template_id == "base" and info.metadata == {"job": "python"}, info
    box.set_timeout(120)

    box.pause(request_timeout=120)
    back = Sandbox.connect(box.sandbox_id, timeout=300, request_timeout=120)
    assert back.files.read("a.txt") == "hello"
    snap = back.create_snapshot(request_timeout=120)
    twin = Sandbox.create(snap.snapshot_id, timeout=60, request_timeout=120)
    assert twin.files.read("a.txt") == "hello"
    assert twin.kill()
    assert Sandbox.delete_snapshot(snap.snapshot_id)
    assert back.get_metrics()[0].cpu_count >= 1
finally:
    assert box.kill()
assert not box.is_running()
try:
    Sandbox.connect(box.sandbox_id)
    raise AssertionError("connected to what is gone")
except NotFoundException:
    pass
print("python", os.environ["E2B_API_URL"], "ok")
