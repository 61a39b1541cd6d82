// A small editor for text files.

import { useState } from "preact/hooks";
import { Action, Guest } from "../ui/parts";

interface EditorProps {
  path: string;
  text: string;
  readOnly: boolean;
  save: (text: string) => Promise<void>;
  close: () => void;
}

export function Editor({ path, text, readOnly, save, close }: EditorProps) {
  const [now, setNow] = useState(text);
  const [kept, setKept] = useState(text);
  const changed = now !== kept;
  const store = async () => {
    await save(now);
    setKept(now);
  };
  return (
    <section class="editor" aria-label="Editor">
      <div class="editor-head">
        <strong><Guest text={path} most={160} /></strong>
        {changed && <span class="chip warn">not saved</span>}
        <div class="row-actions">
          {!readOnly && <Action kind="primary" act={store} disabled={!changed} busy="Saving…">Save</Action>}
          <button type="button" class="quiet" onClick={close}>{changed ? "Close without saving" : "Close"}</button>
        </div>
      </div>
      <textarea class="code" aria-label="Contents of the file" spellcheck={false} readOnly={readOnly} rows={18} value={now}
        onInput={(e) => setNow(e.currentTarget.value)}
        onKeyDown={(e) => { if ((e.ctrlKey || e.metaKey) && e.key === "s" && !readOnly) { e.preventDefault(); if (changed) void store(); } }} />
    </section>
  );
}
