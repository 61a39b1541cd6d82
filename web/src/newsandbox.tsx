import { useState } from "preact/hooks";
import { get, post } from "./api";
import { go } from "./route";
import type { Sandbox, Template } from "./types";
import { Dialog } from "./ui/dialog";
import { useLoad } from "./ui/load";
import { Action, Failure, Field } from "./ui/parts";

export function NewSandbox({ close }: { close: () => void }) {
  const templates = useLoad((s) => get<Template[]>("/templates", s), []);
  const [template, setTemplate] = useState("");
  const [name, setName] = useState("");
  const from = template || templates.value?.[0]?.name || "";
  const create = async () => {
    const box = await post<Sandbox>("/v2/sandboxes", { templateID: from, forever: true, ...(name ? { name } : {}) });
    close();
    go("sandbox", [box.sandboxID]);
  };
  return (
    <Dialog title="New sandbox" close={close} actions={<Action kind="primary" act={create} disabled={from === ""} busy="Creating…">Create</Action>}>
      {templates.error !== undefined && <Failure error={templates.error} />}
      <Field label="Template" hint="The prepared machine that it starts from, as it was when it was saved.">
        <select value={from} onChange={(e) => setTemplate(e.currentTarget.value)}>
          {templates.value?.map((t) => <option key={t.name} value={t.name}>{t.name} ({t.cpuCount} CPU, {t.memoryMB} MiB)</option>)}
        </select>
      </Field>
      <Field label="Name" hint="Letters a-z, digits and hyphens. Without one, a name is made up.">
        <input value={name} autofocus placeholder="otter" pattern="[a-z0-9][a-z0-9-]{0,62}" onInput={(e) => setName(e.currentTarget.value)} />
      </Field>
    </Dialog>
  );
}
