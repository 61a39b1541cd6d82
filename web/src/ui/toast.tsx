// Short messages about what was done or failed.

import { useEffect, useState } from "preact/hooks";
import { ApiError } from "../api";
import { shown } from "../text";

interface Message {
  id: number;
  kind: "good" | "bad";
  text: string;
  hint: string;
}

// shownFor is how long a message stays, in milliseconds. Errors stay until they
// are dismissed.
const shownFor = 6000;

let messages: Message[] = [];
let next = 1;
const listeners = new Set<() => void>();

function change(to: Message[]): void {
  messages = to.slice(-4);
  for (const l of listeners) l();
}

function dismiss(id: number): void {
  change(messages.filter((m) => m.id !== id));
}

// say tells that something was done.
export function say(text: string): void {
  const id = next++;
  change([...messages, { id, kind: "good", text, hint: "" }]);
  window.setTimeout(() => dismiss(id), shownFor);
}

// report tells of an error.
export function report(e: unknown): void {
  const error = e instanceof ApiError ? e : new ApiError(0, e instanceof Error ? e.message : String(e));
  change([...messages, { id: next++, kind: "bad", text: error.message, hint: error.hint }]);
}

export function Toasts() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const l = () => redraw((n) => n + 1);
    listeners.add(l);
    return () => void listeners.delete(l);
  }, []);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {messages.map((m) => (
        <div key={m.id} class={`toast ${m.kind}`}>
          <div>
            <span>{shown(m.text, 600)}</span>
            {m.hint && <div class="hint">{shown(m.hint)}</div>}
          </div>
          <button type="button" class="quiet small" aria-label="Dismiss message" onClick={() => dismiss(m.id)}>✕</button>
        </div>
      ))}
    </div>
  );
}
