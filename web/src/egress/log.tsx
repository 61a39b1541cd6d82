// Connections as they are made and refused.

import { useState } from "preact/hooks";
import { lines } from "../api";
import { live, useEvents } from "../live";
import { to } from "../route";
import { useMay } from "../session";
import { moment, shown, size } from "../text";
import type { AuditEvent } from "../types";
import { useLoad } from "../ui/load";
import { Empty, Failure, Guest, Panel } from "../ui/parts";
import { AddRule } from "./rule";

// kept bounds the lines that are shown; back is how many events are looked
// through for them.
const kept = 300;
const back = 20_000;

const shownTypes = new Set(["egress.opened", "egress.connection", "egress.denied", "egress.asked", "egress.answered"]);

export function ConnectionLog({ id, names }: { id: string; names: Map<string, string> }) {
  const [fresh, setFresh] = useState<AuditEvent[]>([]);
  const [only, setOnly] = useState("");
  const [line, setLine] = useState<AuditEvent | undefined>();
  const decides = useMay("admin");
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
    .filter((e) => shownTypes.has(e.type) && (only === "" || verdict(e).mark === only))
    .slice(-kept).reverse();
  return (
    <Panel title="Connections" aside={
      <select aria-label="Which connections" value={only} onChange={(e) => setOnly(e.currentTarget.value)}>
        <option value="">all</option><option value="denied">denied</option><option value="asked">asked</option><option value="allowed">allowed</option>
      </select>}>
      {past.error !== undefined && <Failure error={past.error} />}
      {all.length === 0
        ? <Empty title={past.loading ? "Loading…" : "No connections yet."}>{!past.loading && <p>The first to each destination shows up here when it begins, every one when it ends or is refused, with the rule that decided.</p>}</Empty>
        : (
          <div class="scroll tall" tabIndex={0} role="region" aria-label="Connections, the latest first">
            <table class="list cards">
              <thead><tr><th>Time</th>{!id && <th>Sandbox</th>}<th>Verdict</th><th>Destination</th><th>Rule</th><th><span class="visually-hidden">Actions</span></th></tr></thead>
              <tbody>{all.map((e) => (
                <Line key={e.seq} e={e} name={id ? undefined : names.get(e.sandboxID ?? "") ?? e.sandboxID ?? ""}
                  rule={decides && names.has(e.sandboxID ?? "") ? () => setLine(e) : undefined} />
              ))}</tbody>
            </table>
          </div>
        )}
      {line && (
        <AddRule id={line.sandboxID ?? ""} name={names.get(line.sandboxID ?? "") ?? ""} destination={line.fields?.["destination"] ?? ""}
          allow={verdict(line).mark !== "allowed"} close={() => setLine(undefined)} />
      )}
    </Panel>
  );
}

// Verdict is what became of a connection, in a colour and words.
interface Verdict {
  mark: "allowed" | "denied" | "asked";
  word: string;
  note: string;
}

function verdict(e: AuditEvent): Verdict {
  const f = e.fields ?? {};
  const answered = f["allow"] === "true";
  switch (e.type) {
    case "egress.opened":
      return { mark: "allowed", word: "allowed", note: "began" };
    case "egress.asked":
      return { mark: "asked", word: "asked", note: "you were asked" };
    case "egress.answered":
      return answered ? { mark: "allowed", word: "approved", note: "by hand" } : { mark: "denied", word: "rejected", note: "by hand" };
    case "egress.denied":
      return { mark: "denied", word: "denied", note: "" };
    default:
      return { mark: "allowed", word: "allowed", note: `ended, ${size(Number(f["up"] ?? 0))} up, ${size(Number(f["down"] ?? 0))} down` };
  }
}

function Line({ e, name, rule }: { e: AuditEvent; name: string | undefined; rule: (() => void) | undefined }) {
  const f = e.fields ?? {};
  const v = verdict(e);
  const destination = f["destination"] ?? "";
  return (
    <tr>
      <td data-label="Time"><a href={to("events", [], { sandbox: e.sandboxID ?? "", seq: String(e.seq) })}>{moment(e.time)}</a></td>
      {name !== undefined && <td data-label="Sandbox"><a href={to("egress", [e.sandboxID ?? ""])}>{name}</a></td>}
      <td data-label="Verdict"><span class={`mark ${v.mark}`}>{v.word}</span></td>
      <td data-label="Destination"><Guest text={destination} most={100} />{v.note && <small> {v.note}</small>}</td>
      <td data-label="Rule"><small><Guest text={[f["rule"], f["reason"]].filter(Boolean).join(": ")} most={160} /></small></td>
      <td class="end">{rule && destination && (
        <button type="button" class="quiet" onClick={rule}>Add rule…<span class="visually-hidden"> {shown(destination, 80)}</span></button>
      )}</td>
    </tr>
  );
}
