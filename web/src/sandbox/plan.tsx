// What is done for the sandbox while nobody looks.

import { useState } from "preact/hooks";
import { put, sandboxPath } from "../api";
import { useMay } from "../session";
import { span } from "../text";
import type { Activity, Schedule } from "../types";
import { Action, Field, Notice } from "../ui/parts";
import { say } from "../ui/toast";

const none: Schedule = { keep: { last: 0, hourly: 0, daily: 0 } };

// Choices of lengths of time, in seconds; others stay as they were set.
const often = [0, 60, 300, 900, 3600, 6 * 3600, 86400];
const idle = [0, 300, 900, 1800, 3600, 6 * 3600, 86400];
const still = [-1, 15, 30, 60, 300, 900];

const cures: [string, string][] = [["nothing", "only say so"], ["reboot", "boot it from its disk"], ["rollback", "roll it back to its newest snapshot from before"]];

export function Plan({ box }: { box: Activity }) {
  const operates = useMay("operate");
  const stored = box.schedule ?? none;
  const [draft, setDraft] = useState<Schedule | undefined>();
  const s = draft ?? stored;
  const set = (change: Partial<Schedule>) => setDraft({ ...s, ...change });
  const keep = (of: "last" | "hourly" | "daily") => (e: { currentTarget: HTMLInputElement }) =>
    set({ keep: { ...s.keep, [of]: Math.max(0, Math.floor(Number(e.currentTarget.value) || 0)) } });
  const before = (change: Partial<NonNullable<Schedule["before"]>>) => set({ before: { ...s.before, ...change } });
  const save = async () => {
    await put(sandboxPath(box.sandboxID, "schedule"), s);
    setDraft(undefined);
    say("The schedule is in force");
  };
  return (
    <fieldset class="plan" disabled={!operates}>
      <legend class="visually-hidden">Schedule</legend>
      {!operates && <p class="muted">Your key may only look.</p>}
      <h3>Snapshots</h3>
      <div class="form-row">
        <Lengths label="Take one every" at={s.everySeconds ?? 0} choices={often} zero="never" change={(n) => set({ everySeconds: n })} hint="Only if something has happened since the last." />
        <Field label="Keep the last"><input type="number" min={0} max={1000} value={s.keep.last} onInput={keep("last")} /></Field>
        <Field label="Hourly ones, for hours"><input type="number" min={0} max={1000} value={s.keep.hourly} onInput={keep("hourly")} /></Field>
        <Field label="Daily ones, for days"><input type="number" min={0} max={1000} value={s.keep.daily} onInput={keep("daily")} /></Field>
      </div>
      <div class="form-row">
        <Field label="And just before commands like" hint="Patterns, or @packages, @destructive, @root; separated by commas.">
          <input value={(s.before?.commands ?? []).join(", ")} spellcheck={false}
            onChange={(e) => before({ commands: e.currentTarget.value.split(",").map((c) => c.trim()).filter(Boolean) })} />
        </Field>
        <label class="inline"><input type="checkbox" checked={s.before?.contact ?? false} onChange={(e) => before({ contact: e.currentTarget.checked })} /> and before a first connection to anywhere</label>
      </div>
      <h3>While it is idle</h3>
      <div class="form-row">
        <Lengths label="Stop its CPU after" at={s.suspendSeconds || (s.idleSeconds ? 30 : -1)} choices={still} change={(n) => set({ suspendSeconds: n })} hint="It stays in memory and goes on in an instant." />
        <Lengths label="Pause it to disk after" at={s.idleSeconds ?? 0} choices={idle} zero="never" change={(n) => set({ idleSeconds: n })} hint="It takes no memory, and comes back when something is asked of it." />
        <Field label="Wake it at" hint="The time of day on the host."><input type="time" value={s.wake ?? ""} onChange={(e) => set({ wake: e.currentTarget.value })} /></Field>
      </div>
      <label class="inline"><input type="checkbox" checked={s.keepAlive ?? false} onChange={(e) => set({ keepAlive: e.currentTarget.checked })} /> Keep it running: bring it back with the daemon, never pause it for being idle</label>
      <h3>If it cannot work any more</h3>
      <Field label="Then">
        <select value={s.onUnhealthy || "nothing"} onChange={(e) => set({ onUnhealthy: e.currentTarget.value })}>
          {cures.map(([id, title]) => <option key={id} value={id}>{title}</option>)}
        </select>
      </Field>
      {s.expiresAt && (
        <Notice kind="info">It has an end: {new Date(s.expiresAt).toLocaleString()}, then it is {s.expiry === "remove" ? "removed" : "paused"}.{" "}
          {operates && <button type="button" class="small" onClick={() => setDraft(endless(s))}>Let it stay</button>}
        </Notice>
      )}
      {operates && (
        <div class="row-actions">
          <Action kind="primary" act={save} disabled={draft === undefined} busy="Storing…">Put in force</Action>
          {draft !== undefined && <button type="button" class="quiet" onClick={() => setDraft(undefined)}>Back to what is in force</button>}
        </div>
      )}
    </fieldset>
  );
}

// endless is a schedule without an end.
function endless(s: Schedule): Schedule {
  const { expiresAt: _, expiry: __, ...rest } = s;
  return rest;
}

interface LengthsProps {
  label: string;
  hint: string;
  at: number;
  choices: number[];
  zero?: string;
  change: (n: number) => void;
}

function Lengths({ label, hint, at, choices, zero = "never", change }: LengthsProps) {
  const all = choices.includes(at) ? choices : [...choices, at].sort((a, b) => a - b);
  return (
    <Field label={label} hint={hint}>
      <select value={String(at)} onChange={(e) => change(Number(e.currentTarget.value))}>
        {all.map((n) => <option key={n} value={String(n)}>{n <= 0 ? zero : span(n)}</option>)}
      </select>
    </Field>
  );
}
