// The audit log: what happened, when, and the way to the moment.

import { useEffect, useState } from "preact/hooks";
import { get, lines } from "./api";
import { live, useEvents, useLive } from "./live";
import { go, to } from "./route";
import { moment } from "./text";
import type { AuditEvent, EventsReport } from "./types";
import { useLoad } from "./ui/load";
import { Action, Empty, Failure, Guest, Notice } from "./ui/parts";

// kept bounds the lines that are shown, back how many events are looked through
// at a time.
const kept = 500;
const back = 50_000;

// typingPause is how long nothing is typed before it is searched for, in
// milliseconds.
const typingPause = 300;

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
  const [sought, seek] = useState("");
  // until is the number before which events are shown; 0 for the latest.
  const [until, setUntil] = useState(0);
  const [follow, setFollow] = useState(true);
  const [fresh, setFresh] = useState<AuditEvent[]>([]);
  useEffect(() => {
    const timer = window.setTimeout(() => seek(text), typingPause);
    return () => window.clearTimeout(timer);
  }, [text]);
  useEffect(() => setUntil(0), [sandbox, type, seq, sought]);
  const known = overview !== undefined;
  const words = sought.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (e: AuditEvent) => words.length === 0 || has(JSON.stringify(e).toLowerCase(), words);
  const past = useLoad(async (signal): Promise<Past> => {
    if (!known) return { all: [], from: 0 };
    const all: AuditEvent[] = [];
    const end = until || (live.overview?.lastEvent ?? 0) + 1;
    const from = seq > 0 && until === 0 ? Math.max(0, seq - kept / 2) : Math.max(0, end - 1 - back);
    const q = new URLSearchParams({ since: String(from), ...(sandbox ? { sandbox } : {}), ...(type ? { type } : {}) });
    await lines<AuditEvent>("/events?" + q.toString(), signal, (e) => {
      if (until > 0 && e.seq >= until) return false;
      if (fits(e)) all.push(e);
      if (seq > 0 && until === 0 && all.length >= kept) return false;
      if (all.length > 2 * kept) all.splice(0, kept);
      return true;
    });
    setFresh([]);
    return { all: all.slice(-kept), from: all.length > kept ? all.at(-kept)!.seq - 1 : from };
  }, [sandbox, type, seq, known, sought, until]);
  const latest = seq === 0 && until === 0;
  useEvents((e) => {
    if (follow && latest && (!sandbox || e.sandboxID === sandbox) && (!type || e.type === type || e.type.startsWith(type + ".")) && fits(e)) setFresh((all) => [...all, e].slice(-kept));
  });
  const filter = (change: Record<string, string>) => go("events", [], { sandbox, type, ...change });
  const last = past.value?.all.at(-1)?.seq ?? 0;
  const all = [...(past.value?.all ?? []), ...(latest ? fresh.filter((e) => e.seq > last) : [])].slice(-kept).reverse();
  // Before these are others, unless the log was looked through from its start.
  const from = past.value === undefined ? 0 : all.length === kept ? (all.at(-1)?.seq ?? 1) - 1 : past.value.from;
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
      {past.value && (from > 0 || until > 0) && (
        <div class="row-actions pages">
          {from > 0 && <button type="button" onClick={() => setUntil(from + 1)}>Older than No. {from + 1}</button>}
          {until > 0 && <button type="button" class="quiet" onClick={() => setUntil(0)}>The latest</button>}
        </div>
      )}
    </>
  );
}

// Past is a stretch of the log: what fits of everything after from.
interface Past {
  all: AuditEvent[];
  from: number;
}

const has = (text: string, words: string[]) => words.every((w) => text.includes(w));

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
      <td class="end">{name && e.sandboxID && <a class="button small" href={to("sandbox", [e.sandboxID, "timeline"], { before: e.time })} title="Opens the timeline at the last snapshot from before this">Restore to before…</a>}</td>
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
