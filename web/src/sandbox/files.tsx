// The files of the sandbox.

import { useState } from "preact/hooks";
import { bytes, del, get, post, sandboxPath, upload } from "../api";
import { draftsOf, keepDraft } from "../drafts";
import { go } from "../route";
import { useMay } from "../session";
import { moment, shown, size } from "../text";
import type { Activity, FileEntry, Folder } from "../types";
import { useLoad } from "../ui/load";
import { Dialog } from "../ui/dialog";
import { Action, Empty, Failure, Field, Guest, Notice, Removal } from "../ui/parts";
import { report, say } from "../ui/toast";
import { Editor } from "./editor";

// maxEdit is how large a file may be that is edited here, in bytes.
const maxEdit = 512 * 1024;

const query = (path: string) => "?path=" + encodeURIComponent(path);
const join = (dir: string, name: string) => (dir === "/" ? "" : dir) + "/" + name;

export function Files({ box, path }: { box: Activity; path: string }) {
  const at = path || "/root";
  const folder = useLoad((s) => get<Folder>(sandboxPath(box.sandboxID, "folder") + query(at), s), [box.sandboxID, at, box.head]);
  const [open, setOpen] = useState<{ path: string; text: string } | undefined>();
  const [drop, setDrop] = useState(false);
  const [sending, setSending] = useState("");
  const [renaming, setRenaming] = useState<string | undefined>();
  const operates = useMay("operate");
  const drafts = `file ${box.sandboxID} `;
  const visit = (p: string) => go("sandbox", [box.sandboxID, "files"], { path: p });
  const file = (p: string) => sandboxPath(box.sandboxID, "file") + query(p);
  const edit = async (p: string) => {
    const { data, more } = await bytes(file(p), maxEdit);
    if (more) throw new Error("This file is too large to edit here; download it instead.");
    const text = new TextDecoder("utf-8", { ignoreBOM: true });
    const decoded = text.decode(data);
    if (decoded.includes("\u0000") || decoded.includes("\ufffd")) throw new Error("This file is not text; download it instead.");
    setOpen({ path: p, text: decoded });
  };
  const send = async (files: Iterable<File>) => {
    let n = 0;
    try {
      for (const f of files) {
        setSending(`Uploading ${f.name}, ${size(f.size)}…`);
        await upload(file(join(at, f.name)), f);
        n++;
      }
    } finally {
      setSending("");
    }
    if (n > 0) say(n === 1 ? "One file uploaded" : `${n} files uploaded`);
    folder.again();
  };
  const crumbs = at.split("/").filter(Boolean);
  // What is listed is of the folder that was answered for, which is another one
  // until the answer for this one comes.
  const listed = folder.value?.path ?? at;
  const unsaved = draftsOf(drafts).filter((p) => p !== open?.path);
  return (
    <div class={`files ${drop ? "drop" : ""}`}
      onDragOver={(e) => { if (operates) { e.preventDefault(); setDrop(true); } }} onDragLeave={() => setDrop(false)}
      onDrop={(e) => { e.preventDefault(); setDrop(false); if (operates && e.dataTransfer) send(e.dataTransfer.files).catch(report); }}>
      <div class="files-head">
        <nav class="crumbs" aria-label="Path">
          <button type="button" class="quiet small" onClick={() => visit("/")} title="Root folder">/</button>
          {crumbs.map((c, i) => (
            <button type="button" key={i} class="quiet small" onClick={() => visit("/" + crumbs.slice(0, i + 1).join("/"))}><Guest text={c} most={40} /> /</button>
          ))}
        </nav>
        {operates && (
          <div class="row-actions">
            <button type="button" onClick={folder.again} aria-busy={folder.loading}>Look again</button>
            <label class="button">Upload<input type="file" multiple class="visually-hidden" onChange={(e) => { if (e.currentTarget.files) send([...e.currentTarget.files]).catch(report); e.currentTarget.value = ""; }} /></label>
            <NewEntry make={async (name, dir) => {
              if (dir) await post(sandboxPath(box.sandboxID, "folder") + query(join(at, name)));
              else await upload(file(join(at, name)), "");
              folder.again();
              if (!dir) await edit(join(at, name));
            }} />
          </div>
        )}
      </div>
      {sending && <Notice kind="info" role="status">{shown(sending, 200)}</Notice>}
      {folder.error !== undefined && <Failure error={folder.error} />}
      {folder.value?.more && <Notice kind="info">Only the first {folder.value.entries.length} entries are listed.</Notice>}
      {unsaved.map((p) => (
        <Notice key={p} kind="warn">
          Not saved: <Guest text={p} most={160} /> <button type="button" class="small" onClick={() => void edit(p).catch(report)}>Go on</button>{" "}
          <button type="button" class="quiet small" onClick={() => { keepDraft(drafts + p, undefined); folder.again(); }}>Throw away</button>
        </Notice>
      ))}
      {open && <Editor key={open.path} name={drafts + open.path} path={open.path} text={open.text} readOnly={!operates} close={() => setOpen(undefined)}
        save={async (text) => { await upload(file(open.path), text); say("Saved"); folder.again(); }} />}
      {folder.value && folder.error === undefined && (
        <table class="list cards" aria-busy={folder.loading}>
          <thead><tr><th>Name</th><th class="num">Size</th><th>Owner</th><th>Mode</th><th>Changed</th><th><span class="visually-hidden">Actions</span></th></tr></thead>
          <tbody>
            {at !== "/" && <tr><td colSpan={6}><button type="button" class="link" onClick={() => visit("/" + crumbs.slice(0, -1).join("/"))}>.. up</button></td></tr>}
            {sorted(folder.value.entries).map((e) => (
              <Entry key={e.name} e={e} operates={operates} href={file(join(listed, e.name))}
                enter={() => (e.type === "folder" ? visit(join(listed, e.name)) : edit(join(listed, e.name)))}
                rename={() => setRenaming(join(listed, e.name))}
                remove={async () => { await del(file(join(listed, e.name))); folder.again(); }} />
            ))}
          </tbody>
        </table>
      )}
      {!folder.value && folder.error === undefined && <p class="muted pad" aria-busy="true">Asking the guest…</p>}
      {renaming !== undefined && <Rename box={box} from={renaming} close={() => setRenaming(undefined)} done={folder.again} />}
      {folder.value?.entries.length === 0 && <Empty title="Nothing in here.">{operates && <p>Drop files here to upload them.</p>}</Empty>}
    </div>
  );
}

function sorted(entries: FileEntry[]): FileEntry[] {
  return [...entries].sort((a, b) => Number(b.type === "folder") - Number(a.type === "folder") || a.name.localeCompare(b.name));
}

interface EntryProps {
  e: FileEntry;
  operates: boolean;
  href: string;
  enter: () => Promise<void> | void;
  rename: () => void;
  remove: () => Promise<void>;
}

function Entry({ e, operates, href, enter, rename, remove }: EntryProps) {
  const opens = e.type !== "other";
  return (
    <tr>
      <td data-label="Name">
        {opens
          ? <button type="button" class="link" onClick={() => { Promise.resolve(enter()).catch(report); }}><Guest text={e.name + (e.type === "folder" ? "/" : "")} most={120} /></button>
          : <Guest text={e.name} most={120} />}
        {e.link && <small> → <Guest text={e.link} most={80} /></small>}
      </td>
      <td class="num" data-label="Size">{e.type === "file" ? size(e.size) : "—"}</td>
      <td data-label="Owner"><Guest text={e.owner} most={24} /></td>
      <td data-label="Mode"><code>{e.permissions.slice(0, 10)}</code></td>
      <td data-label="Changed">{moment(e.modified)}</td>
      <td class="end">
        {e.type === "file" && <a class="button small" href={href} download>Download<span class="visually-hidden"> {shown(e.name, 60)}</span></a>}
        {operates && <button type="button" class="quiet" onClick={rename}>Rename…<span class="visually-hidden"> {shown(e.name, 60)}</span></button>}
        {operates && <Removal act={remove} what={e.name.slice(0, 60)} />}
      </td>
    </tr>
  );
}

function Rename({ box, from, close, done }: { box: Activity; from: string; close: () => void; done: () => void }) {
  // A name with characters that do not show is not what it would seem to be here.
  const [to, setTo] = useState(shown(from, from.length) === from ? from : from.slice(0, from.lastIndexOf("/") + 1));
  const move = async () => {
    await post(sandboxPath(box.sandboxID, "file"), { from, to });
    close();
    done();
  };
  return (
    <Dialog title="Rename or move" close={close} actions={<Action kind="primary" act={move} disabled={to === from || !to.startsWith("/")} busy="Moving…">Move</Action>}>
      <p><Guest text={from} most={300} /></p>
      <Field label="To"><input value={to} spellcheck={false} onInput={(e) => setTo(e.currentTarget.value)} /></Field>
    </Dialog>
  );
}

function NewEntry({ make }: { make: (name: string, folder: boolean) => Promise<void> }) {
  const [name, setName] = useState("");
  const good = name !== "" && !name.includes("/");
  const run = (folder: boolean) => async () => {
    await make(name, folder);
    setName("");
  };
  return (
    <span class="inline">
      <input aria-label="Name of a new file or folder" placeholder="new name" value={name} onInput={(e) => setName(e.currentTarget.value)} />
      <Action act={run(false)} disabled={!good}>New file</Action>
      <Action act={run(true)} disabled={!good}>New folder</Action>
    </span>
  );
}
