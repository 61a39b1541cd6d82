// The audit log: what happened, when, and the way to the moment.

import { useState } from "preact/hooks";
import { get, lines } from "./api";
import { live, useEvents, useLive } from "./live";
import { go, to } from "./route";
import { moment } from "./text";
import type { AuditEvent, EventsReport } from "./types";
import { useLoad } from "./ui/load";
import { Action, Empty, Failure, Guest, Notice } from "./ui/parts";

// kept bounds the lines that are shown, back how many events are looked through.
const kept = 500;
const back = 50_000;

const kinds: [string, string][] = [
  ["", "everything"], ["sandbox", "sandboxes"], ["snapshot", "snapshots"], ["egress", "egress"], ["inside", "asked from inside"],
  ["secret", "secrets"], ["key", "keys"], ["template", "templates"], ["pool", "pool"], ["daemon", "daemon"], ["audit", "the log itself"],
];

export function EventsView({ query }: { query: URLSearchParams }) {
  const { overview } = useLive();
  const sandbox = query.get("sandbox") ?? "";
  const type = query.get("type") ?? "";
  const seq = Number(query.get("seq") ?? 0);
  const [text, setText] = useState("");
  const [follow, setFollow] = useState(true);
  const [fresh, setFresh] = useState<AuditEvent[]>([]);
  const known = overview !== undefined;
  const past = useLoad(async (signal) => {
    const all: AuditEvent[] = [];
    if (!known) return all;
    const since = seq > 0 ? Math.max(0, seq - kept / 2) : Math.max(0, (live.overview?.lastEvent ?? 0) - back);
    const q = new URLSearchParams({ since: String(since), ...(sandbox ? { sandbox } : {}), ...(type ? { type } : {}) });
    await lines<AuditEvent>("/events?" + q.toString(), signal, (e) => {
      all.push(e);
      if (seq > 0 && all.length >= kept) return false;
      if (all.length > 2 * kept) all.splice(0, kept);
      return true;
    });
    setFresh([]);
    return all;
  }, [sandbox, type, seq, known]);
  useEvents((e) => {
    if (follow && (!sandbox || e.sandboxID === sandbox) && (!type || e.type === type || e.type.startsWith(type + "."))) setFresh((all) => [...all, e].slice(-kept));
  });
  const filter = (change: Record<string, string>) => go("events", [], { sandbox, type, ...change });
  const last = past.value?.at(-1)?.seq ?? 0;
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const all = [...(past.value ?? []), ...fresh.filter((e) => e.seq > last)]
    .filter((e) => {
      const s = JSON.stringify(e).toLowerCase();
      return words.every((w) => s.includes(w));
    })
    .slice(-kept).reverse();
  const names = new Map((overview?.sandboxes ?? []).map((s) => [s.sandboxID, s.name]));
  const exported = "/events?" + new URLSearchParams({ ...(sandbox ? { sandbox } : {}), ...(type ? { type } : {}) }).toString();
  return (
    <>
      <div class="view-head">
        <h1>Events</h1>
        <div class="head-end">
          <select aria-label="Kind" value={type} onChange={(e) => filter({ type: e.currentTarget.value })}>
            {kinds.map(([id, title]) => <option key={id} value={id}>{title}</option>)}
            {!kinds.some(([id]) => id === type) && <option value={type}>{type}</option>}
          </select>
          <select aria-label="Sandbox" value={sandbox} onChange={(e) => filter({ sandbox: e.currentTarget.value })}>
            <option value="">all sandboxes</option>
            {overview?.sandboxes.map((s) => <option key={s.sandboxID} value={s.sandboxID}>{s.name}</option>)}
            {sandbox && !names.has(sandbox) && <option value={sandbox}>{sandbox}</option>}
          </select>
          <input type="search" aria-label="Search events" placeholder="Search" value={text} onInput={(e) => setText(e.currentTarget.value)} />
          <label class="inline"><input type="checkbox" checked={follow} onChange={(e) => setFollow(e.currentTarget.checked)} /> Follow</label>
          <a class="button" href={exported} download="bulkhead-events.jsonl">Export</a>
        </div>
      </div>
      <Verify />
      {past.error !== undefined && <Failure error={past.error} />}
      {seq > 0 && <Notice kind="info">Around event {seq}. <a href={to("events", [], { sandbox, type })}>Show the latest</a></Notice>}
      {all.length === 0
        ? <Empty title={past.loading ? "Loading…" : "No event fits."} />
        : (
          <table class="list events cards">
            <thead><tr><th class="num">No.</th><th>Time</th><th>Event</th><th>Sandbox</th><th>What</th><th><span class="visually-hidden">Moment</span></th></tr></thead>
            <tbody>{all.map((e) => <Line key={e.seq} e={e} name={names.get(e.sandboxID ?? "")} marked={e.seq === seq} />)}</tbody>
          </table>
        )}
    </>
  );
}

const bad = /(died|crashed|unhealthy|denied|missed|critical|cut|failed|refused)/;

function Line({ e, name, marked }: { e: AuditEvent; name: string | undefined; marked: boolean }) {
  const fields = Object.entries(e.fields ?? {}).filter(([k, v]) => v !== "" && k !== "console");
  return (
    <tr class={marked ? "marked" : ""}>
      <td class="num" data-label="No.">{e.seq}</td>
      <td data-label="Time" title={e.time}>{moment(e.time)}</td>
      <td data-label="Event"><span class={`mark ${bad.test(e.type) ? "denied" : ""}`}>{e.type}</span></td>
      <td data-label="Sandbox">{e.sandboxID ? (name ? <a href={to("sandbox", [e.sandboxID])}>{name}</a> : <small class="muted">{e.sandboxID}</small>) : "—"}</td>
      <td data-label="What" class="fields">{fields.map(([k, v]) => <span key={k}><small class="muted">{k}</small> <Guest text={v} most={200} /> </span>)}</td>
      <td class="end">{name && e.sandboxID && <a class="button small" href={to("sandbox", [e.sandboxID, "timeline"], { before: e.time })} title="The last snapshot from before this">Just before</a>}</td>
    </tr>
  );
}

function Verify() {
  const [report, setReport] = useState<EventsReport | undefined>();
  const [error, setError] = useState<unknown>(undefined);
  const verify = async () => {
    setReport(undefined);
    setError(undefined);
    try {
      setReport(await get<EventsReport>("/events/verified"));
    } catch (e) {
      setError(e);
    }
  };
  return (
    <div class="verify">
      <Action act={verify} busy="Verifying…">Verify the log</Action>
      {report && <Notice kind="good" role="status">Every line from {report.first} to {report.last} is as it was written. Keep this digest elsewhere: <code>{report.hash}</code></Notice>}
      {error !== undefined && <Failure error={error} />}
    </div>
  );
}
