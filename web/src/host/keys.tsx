// API keys: who else may use this host.

import { useState } from "preact/hooks";
import { del, get, post } from "../api";
import { useLive, useNow } from "../live";
import { ago, moment } from "../text";
import { useLoad } from "../ui/load";
import { Action, Copy, Empty, Failure, Field, Notice, Panel, Removal } from "../ui/parts";

interface Key {
  name: string;
  team: string;
  scope: string;
  sandboxID?: string;
  createdAt: string;
  expiresAt?: string;
  usedAt?: string;
}

interface NewKey extends Key {
  value?: string;
  key?: string;
}

export function Keys() {
  const all = useLoad((s) => get<Key[]>("/keys", s), []);
  const [name, setName] = useState("");
  const [scope, setScope] = useState("read");
  const [sandbox, setSandbox] = useState("");
  const [lasts, setLasts] = useState("");
  const boxes = useLive().overview?.sandboxes ?? [];
  const [made, setMade] = useState<NewKey | undefined>();
  const now = useNow();
  const create = async () => {
    const ends = lasts === "" ? {} : { expiresAt: new Date(Date.now() + Number(lasts) * 1000).toISOString() };
    setMade(await post<NewKey>("/keys", { name, scope, ...(sandbox ? { sandbox } : {}), ...ends }));
    setName("");
    all.again();
  };
  return (
    <Panel title="API keys">
      {all.error !== undefined && <Failure error={all.error} />}
      {all.value?.length === 0 && <Empty title="No keys yet." />}
      {all.value && all.value.length > 0 && (
        <table class="list cards">
          <thead><tr><th>Name</th><th>May</th><th>Team</th><th>Last used</th><th>Ends</th><th><span class="visually-hidden">Actions</span></th></tr></thead>
          <tbody>{all.value.map((k) => (
            <tr key={k.name}>
              <td data-label="Name"><code>{k.name}</code></td><td data-label="May">{k.scope}{k.sandboxID && <small> in {boxes.find((s) => s.sandboxID === k.sandboxID)?.name ?? k.sandboxID}</small>}</td>
              <td data-label="Team">{k.team}</td><td data-label="Last used">{k.usedAt ? ago(k.usedAt, now) : "never"}</td>
              <td data-label="Ends">{k.expiresAt ? moment(k.expiresAt) : "never"}</td>
              <td class="end"><Removal verb="Revoke" what={k.name} act={async () => { await del("/keys/" + encodeURIComponent(k.name)); all.again(); }} /></td>
            </tr>
          ))}</tbody>
        </table>
      )}
      {made && (
        <Notice kind="good" role="status">
          <strong>{made.name}</strong> is made. Its value is shown this once:
          <div><Copy text={made.value ?? made.key ?? ""} /></div>
          <button type="button" class="quiet small" onClick={() => setMade(undefined)}>I have it</button>
        </Notice>
      )}
      <form class="form" onSubmit={(e) => e.preventDefault()}>
        <Field label="Name of a key"><input value={name} autocomplete="off" onInput={(e) => setName(e.currentTarget.value)} /></Field>
        <Field label="May">
          <select value={scope} onChange={(e) => setScope(e.currentTarget.value)}>
            <option value="read">read: only look</option><option value="operate">operate: use sandboxes</option><option value="admin">admin: decide everything</option>
          </select>
        </Field>
        <Field label="In">
          <select value={sandbox} onChange={(e) => setSandbox(e.currentTarget.value)}>
            <option value="">all sandboxes</option>
            {boxes.map((s) => <option key={s.sandboxID} value={s.sandboxID}>{s.name} alone</option>)}
          </select>
        </Field>
        <Field label="For">
          <select value={lasts} onChange={(e) => setLasts(e.currentTarget.value)}>
            <option value="">ever</option><option value="3600">an hour</option><option value="86400">a day</option><option value="2592000">30 days</option>
          </select>
        </Field>
        <Action kind="primary" act={create} disabled={name === ""} busy="Creating…">Create</Action>
      </form>
    </Panel>
  );
}
