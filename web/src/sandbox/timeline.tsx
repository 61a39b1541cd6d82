// The history of a machine, and the ways back.

import type { Ref } from "preact";
import { useRef, useState } from "preact/hooks";
import { del, get, post, sandboxPath } from "../api";
import { useEvents, useNow } from "../live";
import { go } from "../route";
import { useMay } from "../session";
import { ago, moment, size } from "../text";
import type { Activity, Forked, Snapshot, Timeline as Tree } from "../types";
import { useLoad } from "../ui/load";
import { Action, Empty, Failure, Guest, Notice, Removal } from "../ui/parts";
import { say } from "../ui/toast";
import { Graph, graphWidth, rowHeight } from "./graph";
import { layout } from "./layout";
import { Rollback } from "./rollback";

const causes = new Map([
  ["manual", "taken by hand"], ["schedule", "by schedule"], ["inside", "asked for by the agent"], ["pause", "at a pause"],
  ["fork", "for a fork"], ["before-rollback", "what a rollback left"], ["before-exec", "before a risky command"],
  ["before-contact", "before a first contact"], ["template", "from the template"],
]);

// Why says what a snapshot was taken for.
function Why({ cause }: { cause: string }) {
  return <>{causes.get(cause) ?? <Guest text={cause} most={40} />}</>;
}

// changesTimeline are the events after which it is read anew.
const changesTimeline = /^(snapshot\.|sandbox\.(rolled_back|paused|resumed|forked|start|snap|rollback|pause|restart|repaired))/;

export function Timeline({ box, at }: { box: Activity; at: string }) {
  const tree = useLoad((s) => get<Tree>(sandboxPath(box.sandboxID, "timeline"), s), [box.sandboxID, box.head, box.lastSnapshot?.snapshotID]);
  useEvents((e) => {
    if (e.sandboxID === box.sandboxID && changesTimeline.test(e.type)) tree.again();
  });
  const operates = useMay("operate");
  const [name, setName] = useState("");
  const detail = useRef<HTMLElement>(null);
  const [picked, setPicked] = useState<string | undefined>();
  const [rollback, setRollback] = useState<Snapshot | undefined>();
  const now = useNow();
  if (tree.error !== undefined && !tree.value) return <Failure error={tree.error} />;
  if (!tree.value) return <p class="muted pad" aria-busy="true">Loading…</p>;
  const snapshots = [...tree.value.snapshots].reverse();
  const before = at === "" ? undefined : snapshots.find((s) => Date.parse(s.createdAt) < Date.parse(at));
  const selected = picked ?? before?.snapshotID ?? "";
  const placed = layout(tree.value);
  const take = async () => {
    const s = await post<Snapshot>(sandboxPath(box.sandboxID, "snapshots"), { timeline: true, ...(name ? { name } : {}) });
    say(`Snapshot taken; the machine stood still for ${s.stoppedMS.toFixed(0)} ms`);
    setName("");
    tree.again();
  };
  // Who picks a moment by the keyboard goes on with what can be done there.
  const pick = (id: string, byKey: boolean) => {
    setPicked(id === selected ? "" : id);
    if (byKey && id !== selected) requestAnimationFrame(() => detail.current?.focus({ preventScroll: true }));
  };
  const back = (e: KeyboardEvent) => {
    if (e.key !== "Escape") return;
    (document.querySelector(".moment.selected button") as HTMLElement | null)?.focus();
  };
  return (
    <div class="timeline">
      {operates && <div class="row-actions">
        <input aria-label="Name of the snapshot" placeholder="name, if you like" value={name} disabled={box.state !== "running"} onInput={(e) => setName(e.currentTarget.value.trim())} />
        <Action act={take} disabled={box.state !== "running"} busy="Taking…">Take a snapshot</Action>
      </div>}
      {at !== "" && (
        <Notice kind="info">
          {before ? <>The last moment before {moment(at)} is selected.</> : <>There is no snapshot from before {moment(at)}.</>}
        </Notice>
      )}
      <div class="tree" style={{ "--graph": graphWidth(placed) + "px", "--row": rowHeight + "px" }}>
        <Graph layout={placed} selected={selected} />
        <ol class="moments" aria-label="Moments, the newest first">
          <li class="moment present"><div class="moment-line"><strong>Now</strong><small>{box.state === "running" ? "running" : box.state}</small></div></li>
          {snapshots.map((s) => (
            <li key={s.snapshotID} class={`moment ${s.snapshotID === selected ? "selected" : ""}`}>
              <button type="button" class="moment-line" aria-expanded={s.snapshotID === selected} onClick={(e) => pick(s.snapshotID, e.detail === 0)}>
                <strong>{s.name ? <Guest text={s.name} most={40} /> : <Why cause={s.cause} />}</strong>
                <small>{ago(s.createdAt, now)} · {size(s.ownBytes)}{s.name && s.cause !== "manual" && <> · <Why cause={s.cause} /></>}
                  {s.what && <> · <Guest text={s.what} most={60} /></>}</small>
              </button>
            </li>
          ))}
        </ol>
      </div>
      {snapshots.length === 0 && <Empty title="No snapshots yet."><p>A snapshot keeps the whole machine: memory, disk and processes.{operates && " Take one before something risky."}</p></Empty>}
      {snapshots.filter((s) => s.snapshotID === selected).map((s) => (
        <Moment key={s.snapshotID} s={s} into={detail} leave={back} box={box} operates={operates} removed={tree.again} rollback={() => setRollback(s)} head={tree.value?.head === s.snapshotID} />
      ))}
      {rollback && <Rollback box={box} to={rollback} close={() => setRollback(undefined)} done={() => { setRollback(undefined); tree.again(); }} />}
    </div>
  );
}

interface MomentProps {
  s: Snapshot;
  box: Activity;
  operates: boolean;
  head: boolean;
  rollback: () => void;
  removed: () => void;
  into: Ref<HTMLElement>;
  leave: (e: KeyboardEvent) => void;
}

function Moment({ s, box, operates, head, rollback, removed, into, leave }: MomentProps) {
  const fork = async () => {
    const all = await post<Forked[]>(sandboxPath(box.sandboxID, "fork"), { snapshot: s.snapshotID, count: 1, all: true, forever: true });
    const first = all[0]?.sandbox;
    if (!first) return;
    say(`${first.name} goes on from that moment`);
    go("sandbox", [first.sandboxID]);
  };
  const remove = async () => {
    await del(sandboxPath(box.sandboxID, "snapshots", s.snapshotID));
    say("Snapshot removed; those after it stay");
    removed();
  };
  return (
    <section class="moment-detail" aria-label="Selected snapshot" ref={into} tabIndex={-1} onKeyDown={leave}>
      <dl>
        <dt>Taken</dt><dd>{moment(s.createdAt)}, <Why cause={s.cause} /></dd>
        {s.what && <><dt>Before</dt><dd><Guest text={s.what} /></dd></>}
        <dt>Id</dt><dd><code>{s.snapshotID}</code></dd>
        <dt>Costs</dt><dd>{size(s.ownBytes)} that nothing else shares; the machine stood still for {s.stoppedMS.toFixed(0)} ms</dd>
        {head && <><dt>Now</dt><dd>the machine goes on from here</dd></>}
      </dl>
      {operates
        ? (
          <div class="row-actions">
            <button type="button" class="primary" onClick={rollback}>Roll back to this…</button>
            <Action act={fork} busy="Forking…" title="A new sandbox that goes on from this moment; this one stays as it is">Fork from here</Action>
            <Removal act={remove} what="this snapshot" busy="Removing…" />
          </div>
        )
        : <p class="muted">Your key may only look.</p>}
    </section>
  );
}
