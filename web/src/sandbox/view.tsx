// One sandbox: what is wrong with it, what is in it, and the way back.

import { useState } from "preact/hooks";
import { del, post, sandboxPath } from "../api";
import { useLive } from "../live";
import { go, to } from "../route";
import { useMay } from "../session";
import type { Activity, Forked } from "../types";
import { Dialog } from "../ui/dialog";
import { Action, Empty, Guest, Notice, Tabs } from "../ui/parts";
import { health, StateChip, up } from "../ui/state";
import { say } from "../ui/toast";
import { ConsoleLog } from "./console";
import { Files } from "./files";
import { Jail } from "./jail";
import { Plan } from "./plan";
import { Programs } from "./programs";
import { Terminal } from "./terminal";
import { Timeline } from "./timeline";
import { ApiError } from "../api";
import { percent } from "../text";
import { useWide } from "../ui/wide";

const tabs: [string, string][] = [
  ["terminal", "Terminal"], ["files", "Files"], ["programs", "Processes"], ["console", "Console log"], ["jail", "Jail"], ["schedule", "Schedule"],
];

export function SandboxView({ id, tab, query }: { id: string; tab: string; query: URLSearchParams }) {
  const { overview } = useLive();
  const wide = useWide();
  const operates = useMay("operate");
  const box = overview?.sandboxes.find((s) => s.sandboxID === id || s.name === id);
  if (!overview) return <p class="muted pad" aria-busy="true">Waiting for the daemon…</p>;
  if (!box) return <Empty title="There is no such sandbox."><p>It may have been removed. <a href={to("events", [], { sandbox: id })}>Its events</a> are still there.</p><a href={to("fleet")}>All sandboxes</a></Empty>;
  const all: [string, string][] = wide ? tabs : [["timeline", "Timeline"], ...tabs];
  const usual = operates ? "terminal" : "console";
  const at = all.some(([t]) => t === tab) ? tab : health(box) === "crashed" ? "console" : usual;
  const timeline = <Timeline key={box.sandboxID} box={box} at={query.get("before") ?? ""} />;
  return (
    <>
      <Head box={box} />
      <div class="sandbox">
        <section class="pane" aria-label="Sandbox">
          <Tabs label="What to look at" all={all} at={at} href={(t) => to("sandbox", [box.sandboxID, t])} />
          <div class="pane-body">
            {at === "timeline" ? timeline : <Pane box={box} at={at} path={query.get("path") ?? ""} operates={operates} />}
          </div>
        </section>
        {wide && <aside class="panel side" aria-label="Timeline"><header class="panel-head"><h2>Timeline</h2></header>{timeline}</aside>}
      </div>
    </>
  );
}

function Pane({ box, at, path, operates }: { box: Activity; at: string; path: string; operates: boolean }) {
  if (at === "console") return <ConsoleLog key={box.sandboxID} box={box} />;
  if (at === "jail") return <Jail box={box} />;
  if (at === "schedule") return <Plan key={box.sandboxID} box={box} />;
  if (!operates) return <Empty title="Your key may only look."><p>What is in a sandbox needs a key with the scope “operate”.</p></Empty>;
  // Looking must not wake what sleeps.
  if (box.state === "paused") return <Sleeping box={box} />;
  if (!up(box)) return <Empty title={`${box.name} is ${box.state.replace("_", " ")}.`}><p>What is in it can be seen while it runs. Roll back to a moment of its timeline{box.state === "crashed" || box.state === "stopped" ? ", or start it from its disk" : ""}.</p></Empty>;
  switch (at) {
    case "files":
      return <Files box={box} path={path} />;
    case "programs":
      return <Programs box={box} />;
    default:
      return <Terminal key={box.sandboxID} box={box} shell="console" />;
  }
}

function Sleeping({ box }: { box: Activity }) {
  return (
    <Empty title={`${box.name} is paused.`}>
      <p>It takes no memory and no CPU, and goes on where it was.</p>
      <Action kind="primary" act={() => post(sandboxPath(box.sandboxID, "resume"))} busy="Resuming…">Resume</Action>
    </Empty>
  );
}

function Head({ box }: { box: Activity }) {
  const operates = useMay("operate");
  const [removing, setRemoving] = useState(false);
  const [restarting, setRestarting] = useState(false);
  const ask = (verb: string) => () => post(sandboxPath(box.sandboxID, verb));
  const fork = async () => {
    const [first] = await post<Forked[]>(sandboxPath(box.sandboxID, "fork"), { count: 1, all: true, forever: true });
    if (first?.sandbox) say(`${first.sandbox.name} goes on from this moment`);
  };
  const why = box.unhealthy || box.reason;
  const ends = box.state === "stopped" || box.state === "crashed";
  return (
    <>
      <div class="view-head">
        <h1><a href={to("fleet")} class="up">Fleet</a> {box.name}</h1>
        <StateChip sandbox={box} />
        <small class="muted">{box.state === "running" && <>{percent(box.cpuPercent)} CPU · {box.memoryUsedMB ?? 0} of {box.memoryMB} MiB · </>}{box.sandboxID}</small>
        <div class="head-end">
          <a class="button" href={to("egress", [box.sandboxID])}>Egress <small>{box.allowed} ✓ {box.denied} ✕</small></a>
          <a class="button" href={to("events", [], { sandbox: box.sandboxID })}>Events</a>
          {operates && up(box) && <Action act={ask("pause")} busy="Pausing…">Pause</Action>}
          {operates && box.state === "paused" && <Action kind="primary" act={ask("resume")} busy="Resuming…">Resume</Action>}
          {operates && ends && <Action act={ask("start")} busy="Starting…" title="Boot it from its disk">Start</Action>}
          {operates && up(box) && <button type="button" onClick={() => setRestarting(true)} title="End the machine and boot it from its disk">Restart…</button>}
          {operates && (up(box) || box.state === "paused") && <Action act={fork} busy="Forking…" title="A new sandbox that goes on from this moment">Fork</Action>}
          {operates && <button type="button" class="quiet danger" onClick={() => setRemoving(true)}>Remove…</button>}
        </div>
      </div>
      {why && (
        <Notice kind={box.unhealthy || box.state === "crashed" ? "bad" : "warn"} role="alert">
          <strong>{health(box) === "unhealthy" ? "This machine cannot work: " : ""}<Guest text={why} most={400} /></strong>
          {(box.unhealthy || ends) && <div class="hint">{box.lastSnapshot ? "The way back is the timeline: choose a moment from before and roll back." : "There is no snapshot to go back to."}</div>}
        </Notice>
      )}
      {restarting && <Restart box={box} close={() => setRestarting(false)} />}
      {removing && <Remove box={box} close={() => setRemoving(false)} />}
    </>
  );
}

// Restart asks first: what is in memory goes, and only a snapshot brings it back.
function Restart({ box, close }: { box: Activity; close: () => void }) {
  const restart = (first: boolean) => async () => {
    if (first) await post(sandboxPath(box.sandboxID, "snapshots"), { timeline: true });
    await post(sandboxPath(box.sandboxID, "restart"));
    say(`${box.name} was started anew from its disk`);
    close();
  };
  return (
    <Dialog title={`Restart ${box.name}?`} close={close} actions={
      <><Action kind="danger" act={restart(false)} busy="Restarting…">Restart</Action>
        <Action kind="primary" act={restart(true)} busy="Restarting…">Take a snapshot, then restart</Action></>}>
      <p>Every process ends, and what is in memory is lost. The disk stays as it is, and the machine boots from it.</p>
    </Dialog>
  );
}

function Remove({ box, close }: { box: Activity; close: () => void }) {
  const [typed, setTyped] = useState("");
  const remove = async () => {
    if (typed !== box.name) throw new ApiError(0, "type the name of the sandbox");
    await del(sandboxPath(box.sandboxID));
    say(`${box.name} is removed`);
    go("fleet");
  };
  return (
    <Dialog title={`Remove ${box.name}?`} close={close} actions={<Action kind="danger" act={remove} disabled={typed !== box.name} busy="Removing…">Remove for good</Action>}>
      <p>Its files, its memory and all its snapshots go. This cannot be undone.</p>
      <label class="field"><span>Type <code>{box.name}</code> to go on</span><input value={typed} autofocus onInput={(e) => setTyped(e.currentTarget.value)} /></label>
    </Dialog>
  );
}
