// What the guest's kernel wrote to its console.

import { useEffect, useRef, useState } from "preact/hooks";
import { chunks, sandboxPath } from "../api";
import { live } from "../live";
import { log } from "../text";
import type { Activity } from "../types";
import { Failure } from "../ui/parts";

// tail is how much is asked for at first, kept how much is kept, in bytes.
const tail = 128 * 1024;
const kept = 512 * 1024;

// nearEnd is how far from its end one is who reads the end, in pixels.
const nearEnd = 24;

export function ConsoleLog({ box }: { box: Activity }) {
  const [text, setText] = useState("");
  const [error, setError] = useState<unknown>(undefined);
  const [follow, setFollow] = useState(true);
  const [turn, next] = useState(0);
  const end = useRef<HTMLPreElement>(null);
  useEffect(() => {
    const own = new AbortController();
    const decoder = new TextDecoder();
    let all = "";
    let due = 0;
    setError(undefined);
    chunks(sandboxPath(box.sandboxID, "console") + `?follow=1&tail=${tail}`, own.signal, (b) => {
      all = (all + decoder.decode(b, { stream: true })).slice(-kept);
      // A console can be written to faster than it can be drawn.
      if (due === 0) due = window.setTimeout(() => { due = 0; setText(log(all)); }, 150);
    }).catch((e: unknown) => own.signal.aborted || setError(e));
    return () => {
      own.abort();
      window.clearTimeout(due);
    };
  }, [box.sandboxID, turn]);
  useEffect(() => live.onReturn(() => next((n) => n + 1)), []);
  useEffect(() => {
    if (follow && end.current) end.current.scrollTop = end.current.scrollHeight;
  }, [text, follow]);
  return (
    <div class="console">
      <div class="row-actions">
        <label><input type="checkbox" checked={follow} onChange={(e) => setFollow(e.currentTarget.checked)} /> Stay at the end</label>
        <a class="button small" href={sandboxPath(box.sandboxID, "console") + "?tail=1048576"} download={`${box.name}-console.log`}>Download</a>
        <small class="muted">Written by the guest. Escape sequences are left out.</small>
      </div>
      {error !== undefined && <Failure error={error} />}
      <pre ref={end} class="guest-log" tabIndex={0} role="region"
        onScroll={(e) => setFollow(e.currentTarget.scrollHeight - e.currentTarget.scrollTop - e.currentTarget.clientHeight < nearEnd)} aria-label="Console">{text || (error === undefined ? "Nothing yet." : "")}</pre>
    </div>
  );
}
