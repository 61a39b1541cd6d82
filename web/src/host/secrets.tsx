// Secrets go in here and never come out.

import { useState } from "preact/hooks";
import { del, get, put } from "../api";
import { useNow } from "../live";
import { ago } from "../text";
import type { Secret } from "../types";
import { useLoad } from "../ui/load";
import { Action, Empty, Failure, Field, Guest, Panel, Removal } from "../ui/parts";
import { say } from "../ui/toast";

export function Secrets() {
  const all = useLoad((s) => get<Secret[]>("/secrets", s), []);
  const [name, setName] = useState("");
  const [value, setValue] = useState("");
  const now = useNow();
  const store = async () => {
    await put("/secrets/" + encodeURIComponent(name), { value });
    setName("");
    setValue("");
    say("The secret is set; it counts from the next request on");
    all.again();
  };
  return (
    <Panel title="Secrets">
      <p class="muted pad">Values that sandboxes use and never see. They cannot be read back, here or anywhere.</p>
      {all.error !== undefined && <Failure error={all.error} />}
      {all.value?.length === 0 && <Empty title="No secrets yet." />}
      {all.value && all.value.length > 0 && (
        <table class="list cards">
          <thead><tr><th>Name</th><th>Set</th><th>May be used by</th><th><span class="visually-hidden">Actions</span></th></tr></thead>
          <tbody>{all.value.map((s) => (
            <tr key={s.name}>
              <td data-label="Name"><code>{s.name}</code></td><td data-label="Set">{ago(s.set, now)}</td>
              <td data-label="May be used by">{s.usedBy.length > 0 ? <Guest text={s.usedBy.join(", ")} most={300} /> : <span class="muted">nobody</span>}</td>
              <td class="end"><Removal act={async () => { await del("/secrets/" + encodeURIComponent(s.name)); all.again(); }} what={s.name} /></td>
            </tr>
          ))}</tbody>
        </table>
      )}
      <form class="form" onSubmit={(e) => e.preventDefault()}>
        <Field label="Name of a secret"><input value={name} autocomplete="off" onInput={(e) => setName(e.currentTarget.value)} /></Field>
        <Field label="Value"><input type="password" autocomplete="off" value={value} onInput={(e) => setValue(e.currentTarget.value)} /></Field>
        <Action kind="primary" act={store} disabled={name === "" || value === ""} busy="Setting…">Set</Action>
      </form>
    </Panel>
  );
}
