// What sandboxes talk to, what waits for an answer, and the rules.

import { get, post, sandboxPath } from "../api";
import { useEvents, useLive, useNow } from "../live";
import { go, to } from "../route";
import { useMay } from "../session";
import { ago, plural, size } from "../text";
import type { Egress, Question } from "../types";
import { useLoad } from "../ui/load";
import { Action, Empty, Failure, Guest, Panel } from "../ui/parts";
import { say } from "../ui/toast";
import { ConnectionLog } from "./log";
import { Policy } from "./policy";

// bars is how many destinations are drawn.
const bars = 50;

export function EgressView({ id }: { id: string }) {
  const { overview } = useLive();
  if (!overview) return <p class="muted pad" aria-busy="true">Waiting for the daemon…</p>;
  const box = overview.sandboxes.find((s) => s.sandboxID === id);
  const pending = overview.pending.filter((q) => !box || q.sandboxID === box.sandboxID);
  const names = new Map(overview.sandboxes.map((s) => [s.sandboxID, s.name]));
  return (
    <>
      <div class="view-head">
        <h1>Egress</h1>
        <div class="head-end">
          <select aria-label="Sandbox" value={box?.sandboxID ?? ""} onChange={(e) => go("egress", e.currentTarget.value ? [e.currentTarget.value] : [])}>
            <option value="">All sandboxes</option>
            {overview.sandboxes.map((s) => <option key={s.sandboxID} value={s.sandboxID}>{s.name}</option>)}
          </select>
          {box && <a class="button" href={to("sandbox", [box.sandboxID])}>Sandbox</a>}
        </div>
      </div>
      <Pending all={pending} />
      <div class={box ? "columns" : ""}>
        <div>
          <ConnectionLog key={id} id={box?.sandboxID ?? ""} names={names} />
          {box && <Traffic key={id} id={box.sandboxID} allowed={box.allowed} />}
        </div>
        {box
          ? <Policy key={id} id={box.sandboxID} name={box.name} />
          : overview.sandboxes.length > 0 && <p class="muted">Choose a sandbox to see and change its policy.</p>}
      </div>
    </>
  );
}

function Pending({ all }: { all: Question[] }) {
  const decides = useMay("admin");
  const now = useNow();
  if (all.length === 0) return null;
  const answer = (q: Question, allow: boolean, always: boolean) => async () => {
    await post(sandboxPath(q.sandboxID, "egress", "answer"), { destination: q.destination, allow, always });
    say(allow ? (always ? "Allowed from now on" : "Allowed, for those who wait") : "Rejected");
  };
  return (
    <Panel title="Waiting for your answer" class="pending">
      <ul class="questions">
        {all.map((q) => (
          <li key={q.sandboxID + q.destination}>
            <div>
              <strong><Guest text={q.destination} most={120} /></strong>
              <small class="muted">{q.sandbox} · {plural(q.waiting, "connection waits", "connections wait")} since {ago(q.since, now)}</small>
            </div>
            {decides
              ? (
                <div class="row-actions">
                  <Action kind="primary" act={answer(q, true, false)}>Approve once</Action>
                  <Action act={answer(q, true, true)}>Always</Action>
                  <Action kind="danger" act={answer(q, false, false)}>Reject</Action>
                </div>
              )
              : <small class="muted">needs a key with the scope “admin”</small>}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function Traffic({ id, allowed }: { id: string; allowed: number }) {
  const egress = useLoad((s) => get<Egress>(sandboxPath(id, "egress"), s), [id, allowed]);
  useEvents((e) => {
    if (e.sandboxID === id && e.type.startsWith("egress.")) egress.again();
  });
  if (egress.error !== undefined) return <Failure error={egress.error} />;
  if (!egress.value) return null;
  const used = [...egress.value.used].sort((a, b) => b.upBytes + b.downBytes - a.upBytes - a.downBytes);
  const most = Math.max(1, ...used.map((u) => u.upBytes + u.downBytes));
  const dropped = Object.entries(egress.value.dropped ?? {}).filter(([, n]) => n > 0);
  return (
    <>
      <Panel title="Bytes per destination">
        {used.length === 0
          ? <Empty title="Nothing was sent yet." />
          : (
            <table class="bars cards">
              <thead><tr><th>Destination</th><th>Sent and received</th><th class="num">Sent</th><th class="num">Received</th><th class="num">Connections</th></tr></thead>
              <tbody>
                {used.slice(0, bars).map((u) => (
                  <tr key={u.destination}>
                    <td data-label="Destination"><Guest text={u.destination} most={80} /></td>
                    <td class="bar" aria-hidden="true"><Bar up={u.upBytes / most} down={u.downBytes / most} /></td>
                    <td class="num" data-label="Sent">{size(u.upBytes)}</td>
                    <td class="num" data-label="Received">{size(u.downBytes)}</td>
                    <td class="num" data-label="Connections">{u.connections}{u.open > 0 && <small> ({u.open} open)</small>}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        {used.length > bars && <p class="muted pad">And {used.length - bars} more, of {size(used.slice(bars).reduce((n, u) => n + u.upBytes + u.downBytes, 0))} together.</p>}
      </Panel>
      {(egress.value.budgets.length > 0 || dropped.length > 0) && (
        <Panel title="Limits and drops">
          <ul class="plain pad">
            {egress.value.budgets.map((b) => <li key={b.for}><Guest text={b.for || "the whole sandbox"} />: {b.limits}; {size(b.upBytes)} sent, {size(b.downBytes)} received</li>)}
            {dropped.map(([why, n]) => <li key={why}>{plural(n, "packet")} dropped: {why}</li>)}
          </ul>
        </Panel>
      )}
    </>
  );
}

function Bar({ up, down }: { up: number; down: number }) {
  const total = up + down;
  return (
    <svg width="100%" height="10" preserveAspectRatio="none" viewBox="0 0 100 10">
      <rect class="up" x="0" y="0" width={up * 100} height="10" />
      <rect class="down" x={up * 100} y="0" width={Math.max(total > 0 ? 0.5 : 0, down * 100)} height="10" />
    </svg>
  );
}

