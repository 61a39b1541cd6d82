// One file, as it is now and as it would be again.

import { bytes, sandboxPath } from "../api";
import { compare, lines } from "../diff";
import { shown } from "../text";
import type { Activity, FileChange, Snapshot } from "../types";
import { useLoad } from "../ui/load";
import { Failure } from "../ui/parts";

// most bounds what is read of a file, in bytes; widest is how much of a line is
// shown.
const most = 256 * 1024;
const widest = 300;

export function Compare({ box, at, file }: { box: Activity; at: Snapshot; file: FileChange }) {
  const both = useLoad(async () => {
    const read = async (more: Record<string, string>) => text(await bytes(sandboxPath(box.sandboxID, "file") + "?" + new URLSearchParams({ path: file.path, ...more }).toString(), most));
    const [now, then] = await Promise.all([
      file.kind === "removed" ? "" : read({}),
      file.kind === "added" ? "" : read({ at: at.snapshotID }),
    ]);
    return compare(lines(now), lines(then));
  }, [file.path]);
  if (both.error !== undefined) return <Failure error={both.error} />;
  if (both.loading) return <p class="muted" aria-busy="true">Reading both…</p>;
  if (both.value === undefined) return <p class="muted">The two have too little in common to be compared line by line.</p>;
  if (!both.value.some((l) => l && l.kind !== "same")) return <p class="muted">Its lines are the same; what differs is whose it is, its mode, or its last line break.</p>;
  return (
    <pre class="compare" tabIndex={0} role="region" aria-label="What would change in the file">
      {both.value.map((l, i) => (l === undefined
        ? <span key={i} class="muted">⋯{"\n"}</span>
        : <span key={i} class={l.kind}>{{ same: "  ", gone: "- ", new: "+ " }[l.kind]}<bdi>{shown(l.text, widest)}</bdi>{"\n"}</span>))}
    </pre>
  );
}

function text({ data, more }: { data: Uint8Array; more: boolean }): string {
  if (more) throw new Error("This file is too large to be compared here.");
  const decoded = new TextDecoder("utf-8", { ignoreBOM: true }).decode(data);
  if (decoded.includes("\u0000") || decoded.includes("\ufffd")) throw new Error("This file is not text.");
  return decoded;
}
