// What runs in the sandbox, and where it listens.

import { useState } from "preact/hooks";
import { get, post, sandboxPath } from "../api";
import { size, span } from "../text";
import type { Activity, Process, Programs as All } from "../types";
import { useLoad } from "../ui/load";
import { Dialog } from "../ui/dialog";
import { Action, Copy, Empty, Failure, Guest, Notice } from "../ui/parts";
import { say } from "../ui/toast";

export function Programs({ box }: { box: Activity }) {
  const [ending, setEnding] = useState<Process | undefined>();
  // What runs changes with what was started from outside; that is told.
  const all = useLoad((s) => get<All>(sandboxPath(box.sandboxID, "programs"), s), [box.sandboxID, box.head, box.doing.join("\n")]);
  return (
    <div class="programs">
      <div class="row-actions"><button type="button" onClick={all.again} aria-busy={all.loading}>Look again</button><small class="muted">As the guest says: whoever is root in there can make it say anything.</small></div>
      {all.error !== undefined && <Failure error={all.error} />}
      {all.value && (
        <>
          <h3>Ports</h3>
          {all.value.ports.length === 0
            ? <Empty title="Nothing listens." />
            : (
              <ul class="ports">
                {[...all.value.ports].sort((a, b) => a.port - b.port).map((p) => (
                  <li key={p.port}>
                    <strong>{p.port}</strong> <small class="muted">{p.loopback ? "localhost only" : "all addresses"}</small>
                    <a class="button small" href={serviceAt(box.sandboxID, p.port)} target="_blank" rel="noopener noreferrer">Open<span class="visually-hidden"> port {p.port} in a new tab</span></a>
                    <Copy text={`bulkhead forward ${box.name} ${p.port}`} />
                  </li>
                ))}
              </ul>
            )}
          <h3>Processes</h3>
          <table class="list cards">
            <thead><tr><th class="num">PID</th><th>Command</th><th>State</th><th class="num">CPU time</th><th class="num">Memory</th><th class="num">Runs for</th><th><span class="visually-hidden">Actions</span></th></tr></thead>
            <tbody>
              {[...all.value.processes].sort((a, b) => b.cpuSeconds - a.cpuSeconds).map((p) => (
                <tr key={p.pid}>
                  <td class="num" data-label="PID">{p.pid}</td>
                  <td data-label="Command"><Guest text={p.command} most={160} /></td>
                  <td data-label="State">{states.get(p.state) ?? <Guest text={p.state} most={4} />}</td>
                  <td class="num" data-label="CPU time">{p.cpuSeconds.toFixed(1)} s</td>
                  <td class="num" data-label="Memory">{size(p.memoryBytes)}</td>
                  <td class="num" data-label="Runs for">{span(p.ageSeconds)}</td>
                  <td class="end"><button type="button" class="quiet" onClick={() => setEnding(p)}>End…<span class="visually-hidden"> process {p.pid}</span></button></td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
      {ending && <End box={box} p={ending} close={() => setEnding(undefined)} done={all.again} />}
      {!all.value && all.error === undefined && <p class="muted pad" aria-busy="true">Asking the guest…</p>}
    </div>
  );
}

// settling is how long a process gets to be gone before it is looked for again,
// in milliseconds.
const settling = 1000;

// agent is what the host talks to in a guest.
const agent = "/run/bulkhead/bulkhead-guest";

// End ends a process: first it is asked to, as one may have to clean up.
function End({ box, p, close, done }: { box: Activity; p: Process; close: () => void; done: () => void }) {
  const end = (kill: boolean) => async () => {
    try {
      await post(sandboxPath(box.sandboxID, "programs", String(p.pid), "signal"), { started: p.started, kill });
      say(kill ? `Process ${p.pid} is killed` : `Process ${p.pid} is asked to end`);
    } finally {
      close();
      done();
      window.setTimeout(done, settling);
    }
  };
  return (
    <Dialog title={`End process ${p.pid}?`} close={close} actions={
      <><Action act={end(false)} busy="Asking…">Ask it to end</Action><Action kind="danger" act={end(true)} busy="Killing…">Kill it</Action></>}>
      <p><Guest text={p.command} most={300} /></p>
      {(p.pid === 1 || p.command.startsWith(agent)) && (
        <Notice kind="warn">The machine needs this one: without it, it may not answer any more. The way back is the timeline then.</Notice>
      )}
      <p class="muted">Asking sends SIGTERM, so that it can put things in order; killing sends SIGKILL. A rollback to a moment before brings it back.</p>
    </Dialog>
  );
}

// serviceAt is the address at which the host leads to a port of a sandbox: a name of
// its own, so that what serves there is another origin than this page.
function serviceAt(id: string, port: number): string {
  const host = /^[\d.]+$|^\[/.test(location.hostname) ? "localhost" : location.hostname;
  return `${location.protocol}//${port}-${id}.${host}${location.port ? ":" + location.port : ""}/`;
}

// states are the letters of proc_pid_stat(5).
const states = new Map([["R", "running"], ["S", "sleeping"], ["D", "waits for disk"], ["Z", "zombie"], ["T", "stopped"], ["t", "traced"], ["I", "idle"], ["X", "dead"]]);
