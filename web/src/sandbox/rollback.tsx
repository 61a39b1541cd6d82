// What going back would undo, and the way to do it.

import { Fragment } from "preact";
import { useEffect, useState } from "preact/hooks";
import { lines, post, sandboxPath } from "../api";
import { moment, plural, size } from "../text";
import type { Activity, FileChange, RollbackResult, Snapshot } from "../types";
import { Dialog } from "../ui/dialog";
import { Action, Failure, Guest, Notice } from "../ui/parts";
import { up } from "../ui/state";
import { Compare } from "./compare";
import { say } from "../ui/toast";

// listed bounds the files that are shown; all are counted.
const listed = 300;

interface Diff {
  files: FileChange[];
  added: number;
  removed: number;
  changed: number;
  // rows is how many there would be to list.
  rows: number;
  whole: boolean;
}

const nothing: Diff = { files: [], added: 0, removed: 0, changed: 0, rows: 0, whole: false };

export function Rollback({ box, to, close, done }: { box: Activity; to: Snapshot; close: () => void; done: () => void }) {
  const [diff, setDiff] = useState<Diff>(nothing);
  // seen is the file of which the lines are shown.
  const [seen, see] = useState("");
  const [error, setError] = useState<unknown>(undefined);
  useEffect(() => {
    const own = new AbortController();
    const d = { ...nothing, files: [] as FileChange[] };
    let folder: FileChange | undefined;
    let drawn = 0;
    lines<FileChange>(sandboxPath(box.sandboxID, "diff") + "?from=" + encodeURIComponent(to.snapshotID), own.signal, (c) => {
      d[c.kind]++;
      // Of a folder that has come or gone as a whole, the folder is enough.
      const within = folder !== undefined && folder.kind === c.kind && c.path.startsWith(folder.path + "/");
      if (c.folder && c.kind !== "changed" && !within) folder = c;
      if (!within && d.files.length < listed) d.files.push(c);
      if (!within) d.rows++;
      if (Date.now() - drawn > 200) {
        drawn = Date.now();
        setDiff({ ...d, files: [...d.files] });
      }
    }).then(() => setDiff({ ...d, whole: true }), (e: unknown) => own.signal.aborted || setError(e));
    return () => own.abort();
  }, [box.sandboxID, to.snapshotID]);

  const roll = async () => {
    const r = await post<RollbackResult>(sandboxPath(box.sandboxID, "rollback"), { snapshot: to.snapshotID });
    say(`${box.name} is back at ${to.name || moment(to.createdAt)}` + (r.kept ? "; what it was is kept as a snapshot" : r.lost ? `; what it was is not kept: ${r.lost}` : ""));
    done();
  };
  const total = diff.added + diff.removed + diff.changed;
  return (
    <Dialog wide title={`Roll ${box.name} back to ${to.name || moment(to.createdAt)}?`} close={close}
      actions={<Action kind="primary" act={roll} busy="Rolling back…">Roll back</Action>}>
      <p>The whole machine goes back to {moment(to.createdAt)}: files, memory and every process. {up(box) && !box.unhealthy
        ? "What it is now is kept as a snapshot, so this can be undone."
        : "If the machine still answers, what it is now is kept as a snapshot."}</p>
      <h3>What this would undo</h3>
      {error !== undefined
        ? <><Failure error={error} /><p class="muted">The files cannot be compared; rolling back does not need that.</p></>
        : (
          <p role="status" aria-busy={!diff.whole}>
            {!diff.whole && total === 0 && "Comparing the two moments…"}
            {diff.whole && total === 0 && "No file differs."}
            {total > 0 && <>{plural(diff.changed, "file")} changed, {diff.added} made, {diff.removed} removed since then{!diff.whole && "…"}</>}
          </p>
        )}
      {diff.files.length > 0 && (
        <div class="scroll">
          <table class="diff">
            <thead><tr><th>Undone</th><th>File</th><th class="num">Size now</th><th class="num">Size then</th></tr></thead>
            <tbody>
              {diff.files.map((c) => (
                <Fragment key={c.path}>
                  <tr>
                    <td><span class={`mark ${c.kind}`}>{c.kind === "added" ? "goes" : c.kind === "removed" ? "comes back" : "changes back"}</span></td>
                    <td>{c.folder
                      ? <Guest text={c.path + "/"} />
                      : <button type="button" class="link" aria-expanded={seen === c.path} title="Show its lines" onClick={() => see(seen === c.path ? "" : c.path)}><Guest text={c.path} /></button>}</td>
                    <td class="num">{c.kind === "removed" ? "—" : size(c.sizeAfter)}</td>
                    <td class="num">{c.kind === "added" ? "—" : size(c.sizeBefore)}</td>
                  </tr>
                  {seen === c.path && <tr><td colSpan={4}><Compare box={box} at={to} file={c} /></td></tr>}
                </Fragment>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {diff.rows > listed && <p class="muted">The first {listed} of {diff.rows} are listed.</p>}
      {diff.whole && <Notice kind="info">Contents of memory are not compared; they go back too.</Notice>}
    </Dialog>
  );
}
