// Connections as they are made and refused.

import { useState } from "preact/hooks";
import { lines, post, sandboxPath } from "../api";
import { live, useEvents } from "../live";
import { to } from "../route";
import { useMay } from "../session";
import { moment, size } from "../text";
import type { AuditEvent } from "../types";
import { useLoad } from "../ui/load";
import { Action, Empty, Failure, Guest, Panel } from "../ui/parts";
import { say } from "../ui/toast";

// kept bounds the lines that are shown; back is how many events are looked
// through for them.
const kept = 300;
const back = 20_000;

const shownTypes = new Set(["egress.opened", "egress.connection", "egress.denied", "egress.asked", "egress.answered"]);

export function ConnectionLog({ id, names }: { id: string; names: Map<string, string> }) {
  const [fresh, setFresh] = useState<AuditEvent[]>([]);
  const [only, setOnly] = useState("");
  const past = useLoad(async (signal) => {
    const all: AuditEvent[] = [];
    const since = Math.max(0, (live.overview?.lastEvent ?? 0) - back);
    const q = new URLSearchParams({ type: "egress", since: String(since), ...(id ? { sandbox: id } : {}) });
    await lines<AuditEvent>("/events?" + q.toString(), signal, (e) => {
      all.push(e);
      if (all.length > 2 * kept) all.splice(0, kept);
    });
    return all;
  }, [id]);
  useEvents((e) => {
    if (e.type.startsWith("egress.") && (!id || e.sandboxID === id)) setFresh((all) => [...all, e].slice(-kept));
  });
  const last = past.value?.at(-1)?.seq ?? 0;
  const all = [...(past.value ?? []), ...fresh.filter((e) => e.seq > last)]
    .filter((e) => shownTypes.has(e.type) && (only === "" || (verdict(e) === "denied") === (only === "denied")))
    .slice(-kept).reverse();
  return (
    <Panel title="Connections" aside={
      <select aria-label="Which connections" value={only} onChange={(e) => setOnly(e.currentTarget.value)}>
        <option value="">all</option><option value="denied">denied</option><option value="allowed">allowed</option>
      </select>}>
      {past.error !== undefined && <Failure error={past.error} />}
      {all.length === 0
        ? <Empty title={past.loading ? "Loading…" : "No connections yet."}>{!past.loading && <p>The first to each destination shows up here when it begins, every one when it ends or is refused, with the rule that decided.</p>}</Empty>
        : (
          <div class="scroll tall" tabIndex={0} role="region" aria-label="Connections, the latest first">
            <table class="list cards">
              <thead><tr><th>Time</th>{!id && <th>Sandbox</th>}<th>Verdict</th><th>Destination</th><th>Rule</th><th><span class="visually-hidden">Actions</span></th></tr></thead>
              <tbody>{all.map((e) => <Line key={e.seq} e={e} name={id ? undefined : names.get(e.sandboxID ?? "") ?? e.sandboxID ?? ""} />)}</tbody>
            </table>
          </div>
        )}
    </Panel>
  );
}

function verdict(e: AuditEvent): "opened" | "allowed" | "denied" | "asked" | "answered" {
  if (e.type === "egress.opened") return "opened";
  if (e.type === "egress.asked") return "asked";
  if (e.type === "egress.answered") return "answered";
  return e.type === "egress.denied" ? "denied" : "allowed";
}

function Line({ e, name }: { e: AuditEvent; name: string | undefined }) {
  const decides = useMay("admin");
  const f = e.fields ?? {};
  const v = verdict(e);
  const destination = f["destination"] ?? "";
  const add = (allow: boolean) => async () => {
    await post(sandboxPath(e.sandboxID ?? "", "egress", "rules"), { destination, allow });
    say(`${allow ? "Allowed" : "Denied"} from now on: ${destination}`);
  };
  const moved = v === "allowed" ? `${size(Number(f["up"] ?? 0))} up, ${size(Number(f["down"] ?? 0))} down` : "";
  return (
    <tr>
      <td data-label="Time"><a href={to("events", [], { sandbox: e.sandboxID ?? "", seq: String(e.seq) })}>{moment(e.time)}</a></td>
      {name !== undefined && <td data-label="Sandbox"><a href={to("egress", [e.sandboxID ?? ""])}>{name}</a></td>}
      <td data-label="Verdict"><span class={`mark ${v}`}>{v}</span></td>
      <td data-label="Destination"><Guest text={destination} most={100} />{moved && <small> {moved}</small>}</td>
      <td data-label="Rule"><small><Guest text={[f["rule"], f["reason"]].filter(Boolean).join(": ")} most={160} /></small></td>
      <td class="end">{decides && destination && (v === "denied"
        ? <Action kind="quiet" act={add(true)} about={destination}>Allow…</Action>
        : v === "allowed" && <Action kind="quiet" act={add(false)} about={destination}>Deny…</Action>)}</td>
    </tr>
  );
}
