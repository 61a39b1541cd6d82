"""The Python SDK builds a template: its archives and its polling are its own."""
import os
import pathlib
import tempfile

from e2b import Sandbox, Template, wait_for_port
from e2b.exceptions import BuildException

context = pathlib.Path(tempfile.mkdtemp())
(context / "app").mkdir()
(context / "app" / "index").write_text("served\n")
(context / "one").write_text("one\n")


def kitchen():
    return (
        Template(file_context_path=context)
        .from_template("base")
        .copy("app", "/srv/app", user="root", mode=0o755)
        .copy("one", "copied/")
        .set_envs({"GREETING": "from python"})
        .set_workdir("/srv/job")
        .run_cmd(['echo "$GREETING" > greeting', "ls"])
        .set_start_cmd("python3 -m http.server 8123 --directory /srv/app", wait_for_port(8123))
    )


def build(template, name, **opts):
    lines = []
    info = Template.build(template, name, on_build_logs=lambda e: lines.append(e.message), request_timeout=120, **opts)
    return info, "\n".join(lines)


try:
    info, log = build(kitchen(), "snake")
    assert "CACHED" not in log and "\ngreeting" in log, log
    with Sandbox.create("snake", timeout=120, request_timeout=120) as box:
        out = box.commands.run("pwd; cat greeting ~/copied/one; stat -c '%U %a' /srv/app/index; echo $GREETING", timeout=120).stdout
        assert out == "/srv/job\nfrom python\none\nroot 755\nfrom python\n", out
        out = box.commands.run("curl -s http://127.0.0.1:8123/index", timeout=120).stdout
        assert out == "served\n", out
    _, log = build(kitchen(), "snake", tags=["again"])
    assert "CACHED [5/5]" in log, log
    _, log = build(Template(file_context_path=context).from_template("snake").skip_cache().run_cmd("cat greeting"), "snakelet")
    assert "from python" in log, log
    try:
        build(Template().from_template("base").run_cmd("exit 5"), "snakelet")
        raise AssertionError("a failed step made a template")
    except BuildException as e:
        assert "exit status 5" in str(e), e
    assert Template.alias_exists("snake")
finally:
    for f in sorted(context.rglob("*"), reverse=True):
        f.rmdir() if f.is_dir() else f.unlink()
    context.rmdir()
print("python", os.environ["E2B_API_URL"], "builds ok")
