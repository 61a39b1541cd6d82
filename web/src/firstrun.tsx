// What one sees on a new host: the way to the first sandbox.

import { useState } from "preact/hooks";
import { get, lines, post } from "./api";
import { go } from "./route";
import { useMay } from "./session";
import { shown } from "./text";
import type { BuildEvent, Sandbox, Template } from "./types";
import { ApiError } from "./api";
import { useLoad } from "./ui/load";
import { Action, Copy, Failure } from "./ui/parts";

export function FirstRun() {
  const templates = useLoad((s) => get<Template[]>("/templates", s), []);
  const [progress, setProgress] = useState<BuildEvent | undefined>();
  const [log, setLog] = useState("");
  const operates = useMay("operate");
  const builds = useMay("admin");
  if (templates.error !== undefined) return <Failure error={templates.error} />;
  if (templates.value === undefined) return <p class="muted pad" aria-busy="true">Loading…</p>;
  const first = templates.value[0];
  const build = async () => {
    let end: BuildEvent | undefined;
    await lines<BuildEvent>("/templates", new AbortController().signal, (e) => {
      end = e;
      if (e.step) setProgress(e);
      if (e.log) setLog(e.log);
    }, { name: "base" });
    if (end?.error) throw new ApiError(end.error.code, end.error.message, end.error.hint ?? "");
    templates.again();
  };
  const create = async () => {
    const box = await post<Sandbox>("/v2/sandboxes", { templateID: first?.name, forever: true });
    go("sandbox", [box.sandboxID]);
  };
  return (
    <div class="first">
      <h1>{first ? "No sandboxes yet" : "Welcome"}</h1>
      <p>A sandbox is a whole computer for one agent: it has root in there, and a way back from whatever it does.</p>
      <ol class="steps">
        <li class={first ? "done" : "next"}>
          <h2>Build a template</h2>
          <p>The machine that sandboxes start from. Debian's packages are downloaded once; it takes a few minutes.</p>
          {!first && builds && <Action kind="primary" act={build} busy="Building…">Build the template “base”</Action>}
          {!first && !builds && <Copy text="bulkhead template build base" />}
          {!first && progress && (
            <div class="progress" role="status">
              <progress max={progress.of ?? 1} value={(progress.number ?? 1) - (progress.done ? 0 : 1)} aria-label="Progress of the build" />
              <span>{progress.number} of {progress.of}: {progress.step}</span>
              <code class="log-line">{shown(log, 120)}</code>
            </div>
          )}
          {first && <p class="good-text">Done: {first.name}</p>}
        </li>
        <li class={first ? "next" : ""}>
          <h2>Create a sandbox</h2>
          <p>It starts where the template was saved, so this takes about a second.</p>
          {operates && <Action kind="primary" act={create} disabled={!first} busy="Creating…">Create the first sandbox</Action>}
          {!operates && <p class="muted">Your key may only look.</p>}
        </li>
      </ol>
      <p class="muted">From a terminal: <Copy text={`bulkhead create ${first?.name ?? "base"} --name otter`} /></p>
    </div>
  );
}
