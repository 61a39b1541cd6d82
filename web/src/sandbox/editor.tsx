// A small editor for text files.

import { useState } from "preact/hooks";
import { draft, keepDraft } from "../drafts";
import { Action, Guest } from "../ui/parts";
import { report } from "../ui/toast";

interface EditorProps {
  // name is that of the draft: what is written stays until it is saved.
  name: string;
  path: string;
  text: string;
  readOnly: boolean;
  save: (text: string) => Promise<void>;
  close: () => void;
}

export function Editor({ name, path, text, readOnly, save, close }: EditorProps) {
  const [now, setNow] = useState(draft(name) ?? text);
  const [kept, setKept] = useState(text);
  const changed = now !== kept;
  const write = (to: string) => {
    setNow(to);
    keepDraft(name, to === kept ? undefined : to);
  };
  const store = async () => {
    await save(now);
    setKept(now);
    keepDraft(name, undefined);
  };
  const leave = () => {
    keepDraft(name, undefined);
    close();
  };
  return (
    <section class="editor" aria-label="Editor">
      <div class="editor-head">
        <strong><Guest text={path} most={160} /></strong>
        {changed && <span class="chip warn">not saved</span>}
        <div class="row-actions">
          {!readOnly && <Action kind="primary" act={store} disabled={!changed} busy="Saving…">Save</Action>}
          <button type="button" class="quiet" onClick={leave}>{changed ? "Close without saving" : "Close"}</button>
        </div>
      </div>
      <textarea class="code" aria-label="Contents of the file" spellcheck={false} readOnly={readOnly} rows={18} value={now}
        onInput={(e) => write(e.currentTarget.value)}
        onKeyDown={(e) => { if ((e.ctrlKey || e.metaKey) && e.key === "s" && !readOnly) { e.preventDefault(); if (changed) store().catch(report); } }} />
    </section>
  );
}
