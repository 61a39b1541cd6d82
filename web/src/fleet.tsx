// All sandboxes: what they are, what they do, and what has to be looked at.

import { useMemo, useState } from "preact/hooks";
import { post, sandboxPath } from "./api";
import { FirstRun } from "./firstrun";
import { NewSandbox } from "./newsandbox";
import { useLive, useNow } from "./live";
import { stay, to } from "./route";
import { useMay } from "./session";
import { ago, percent, plural, shown, span } from "./text";
import type { Activity } from "./types";
import { Action, Empty, Guest, Notice } from "./ui/parts";
import { Sparkline } from "./ui/sparkline";
import { health, StateChip, up } from "./ui/state";
import { say } from "./ui/toast";

const urgent = ["crashed", "unhealthy", "held"];

function labels(s: Activity): string[] {
  return Object.entries(s.metadata ?? {}).map(([k, v]) => `${k}=${v}`);
}

function fits(s: Activity, search: string): boolean {
  const text = [s.name, s.sandboxID, s.templateID, ...s.doing, ...labels(s)].join("\n").toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

// The filters are in the address, so that the way back from a sandbox leads to
// the same rows.
export function FleetView({ query }: { query: URLSearchParams }) {
  const { overview } = useLive();
  const now = useNow();
  const [search, state, label] = [query.get("q") ?? "", query.get("state") ?? "", query.get("label") ?? ""];
  const filter = (change: Record<string, string>) => stay("fleet", [], { q: search, state, label, ...change });
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const [creating, setCreating] = useState(false);
  const operates = useMay("operate");
  const all = overview?.sandboxes ?? [];
  const counts = useMemo(() => count(all), [overview]);
  const known = useMemo(() => [...new Set(all.flatMap(labels))].sort(), [overview]);
  if (!overview) return <p class="muted pad" aria-busy="true">Waiting for the daemon…</p>;
  if (all.length === 0) return <FirstRun />;
  const rows = all
    .filter((s) => (state === "" || health(s) === state) && (label === "" || labels(s).includes(label)) && fits(s, search))
    .sort((a, b) => Number(urgent.includes(health(b))) - Number(urgent.includes(health(a))) || Date.parse(b.createdAt) - Date.parse(a.createdAt));
  const chosen = rows.filter((s) => picked.has(s.sandboxID));
  const pick = (id: string, on: boolean) => {
    const next = new Set(picked);
    if (on) next.add(id);
    else next.delete(id);
    setPicked(next);
  };
  return (
    <>
      <div class="view-head">
        <h1>Fleet</h1>
        <div class="filters" role="group" aria-label="Filter by state">
          <button type="button" class="pill" aria-pressed={state === ""} onClick={() => filter({ state: "" })}>all {all.length}</button>
          {counts.map(([name, n]) => (
            <button type="button" key={name} class={`pill ${urgent.includes(name) ? "bad" : ""}`} aria-pressed={state === name}
              onClick={() => filter({ state: state === name ? "" : name })}>{name.replace("_", " ")} {n}</button>
          ))}
        </div>
        <div class="head-end">
          {(known.length > 0 || label) && (
            <select aria-label="Label" value={label} onChange={(e) => filter({ label: e.currentTarget.value })}>
              <option value="">any label</option>
              {known.map((l) => <option key={l} value={l}>{shown(l, 60)}</option>)}
              {label && !known.includes(label) && <option value={label}>{shown(label, 60)}</option>}
            </select>
          )}
          <input type="search" placeholder="Search name, label, command" aria-label="Search" value={search} onInput={(e) => filter({ q: e.currentTarget.value })} />
          {operates && <button type="button" class="primary" onClick={() => setCreating(true)}>New sandbox</button>}
        </div>
      </div>
      {overview.pending.length > 0 && (
        <Notice kind="warn" role="status">
          <strong>{plural(overview.pending.length, "connection waits", "connections wait")} for your answer.</strong> <a href={to("egress")}>Review in Egress</a>
        </Notice>
      )}
      {operates && chosen.length > 0 && <Bulk chosen={chosen} done={() => setPicked(new Set())} />}
      {rows.length === 0
        ? <Empty title="No sandbox fits."><button type="button" onClick={() => stay("fleet")}>Show all</button></Empty>
        : (
          <table class="fleet cards">
            <thead>
              <tr>
                {operates && <th class="tick"><input type="checkbox" aria-label="Select all that are shown" checked={chosen.length === rows.length} indeterminate={chosen.length > 0 && chosen.length < rows.length}
                  onChange={(e) => setPicked(new Set(e.currentTarget.checked ? rows.map((s) => s.sandboxID) : []))} /></th>}
                <th>Sandbox</th><th>State</th><th>Doing</th><th>CPU</th><th class="num">Memory</th><th>Last snapshot</th><th class="num">Egress</th><th class="num">Age</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((s) => (
                <Row key={s.sandboxID} s={s} now={now} picked={picked.has(s.sandboxID)} pick={operates ? (on) => pick(s.sandboxID, on) : undefined} />
              ))}
            </tbody>
          </table>
        )}
      {creating && <NewSandbox close={() => setCreating(false)} />}
    </>
  );
}

function count(all: Activity[]): [string, number][] {
  const n = new Map<string, number>();
  for (const s of all) n.set(health(s), (n.get(health(s)) ?? 0) + 1);
  return [...n].sort(([a], [b]) => Number(urgent.includes(b)) - Number(urgent.includes(a)) || a.localeCompare(b));
}

function Row({ s, now, picked, pick }: { s: Activity; now: number; picked: boolean; pick: ((on: boolean) => void) | undefined }) {
  const why = s.unhealthy ?? s.reason ?? "";
  return (
    <tr class={urgent.includes(health(s)) ? "urgent" : ""}>
      {pick && <td class="tick"><input type="checkbox" aria-label={`Select ${s.name}`} checked={picked} onChange={(e) => pick(e.currentTarget.checked)} /></td>}
      <td class="name" data-label="Sandbox">
        <a href={to("sandbox", [s.sandboxID])}>{s.name}</a>
        <small><Guest text={[s.templateID, ...labels(s)].join(" · ")} most={80} /></small>
      </td>
      <td data-label="State"><StateChip sandbox={s} />{why && <small class="why"><Guest text={why} most={120} /></small>}</td>
      <td class="doing" data-label="Doing">
        {s.doing.length > 0
          ? <><Guest text={s.doing[0] ?? ""} most={60} />{s.doing.length > 1 && <small> and {s.doing.length - 1} more</small>}</>
          : <span class="muted">{s.state === "running" ? "nothing started from outside" : "—"}</span>}
      </td>
      <td class="load" data-label="CPU"><Sparkline hour={s.hour} label={`CPU of the last hour, now ${percent(s.cpuPercent)}`} /><span>{s.state === "running" ? percent(s.cpuPercent) : "—"}</span></td>
      <td class="num" data-label="Memory">{s.memoryUsedMB ? <>{s.memoryUsedMB} <small>of {s.memoryMB} MiB</small></> : "—"}</td>
      <td data-label="Last snapshot">
        {s.lastSnapshot
          ? <>{ago(s.lastSnapshot.createdAt, now)} <small><Guest text={s.lastSnapshot.name || s.lastSnapshot.cause} most={40} /></small></>
          : <span class="muted">none yet</span>}
      </td>
      <td class="num" data-label="Egress"><a href={to("egress", [s.sandboxID])} title="Connections allowed and denied">
        <span class="good-text">{s.allowed} ✓<span class="visually-hidden"> allowed,</span></span>{" "}
        <span class={s.denied ? "bad-text" : "muted"}>{s.denied} ✕<span class="visually-hidden"> denied, by {s.name}</span></span></a></td>
      <td class="num" data-label="Age">{span((now - Date.parse(s.createdAt)) / 1000)}</td>
    </tr>
  );
}

function Bulk({ chosen, done }: { chosen: Activity[]; done: () => void }) {
  const run = async (verb: string, past: string, of: Activity[]) => {
    const results = await Promise.allSettled(of.map((s) => post(sandboxPath(s.sandboxID, verb))));
    const failed = results.flatMap((r, i) => (r.status === "rejected" ? [`${of[i]?.name}: ${String((r.reason as Error).message)}`] : []));
    if (failed.length < of.length) say(`${past} ${plural(of.length - failed.length, "sandbox", "sandboxes")}`);
    if (failed.length > 0) throw new Error(failed.join("; "));
    done();
  };
  const running = chosen.filter(up);
  const paused = chosen.filter((s) => s.state === "paused");
  return (
    <div class="bulk" role="region" aria-label="Selected sandboxes">
      <strong>{plural(chosen.length, "sandbox", "sandboxes")} selected</strong>
      <Action act={() => run("pause", "Paused", running)} disabled={running.length === 0} busy="Pausing…">Pause {running.length || ""}</Action>
      <Action act={() => run("resume", "Resumed", paused)} disabled={paused.length === 0} busy="Resuming…">Resume {paused.length || ""}</Action>
      <button type="button" class="quiet" onClick={done}>Clear</button>
    </div>
  );
}
