// A rule from a line of the log.

import { useState } from "preact/hooks";
import { post, sandboxPath } from "../api";
import { shown } from "../text";
import { Dialog } from "../ui/dialog";
import { Action, Field } from "../ui/parts";
import { say } from "../ui/toast";

interface AddRuleProps {
  id: string;
  name: string;
  destination: string;
  allow: boolean;
  close: () => void;
}

export function AddRule({ id, name, destination, allow, close }: AddRuleProps) {
  const [to, setTo] = useState(shown(destination));
  const [allows, setAllows] = useState(allow);
  const add = async () => {
    await post(sandboxPath(id, "egress", "rules"), { destination: to.trim(), allow: allows });
    say(`${allows ? "Allowed" : "Denied"} to ${name} from now on: ${to.trim()}`);
    close();
  };
  return (
    <Dialog title={`Add a rule to ${name}`} close={close}
      actions={<Action kind={allows ? "primary" : "danger"} act={add} disabled={to.trim() === ""} busy="Adding…">{allows ? "Allow from now on" : "Deny from now on"}</Action>}>
      <Field label="Verdict">
        <select value={allows ? "allow" : "deny"} onChange={(e) => setAllows(e.currentTarget.value === "allow")}>
          <option value="allow">allow</option><option value="deny">deny</option>
        </select>
      </Field>
      <Field label="To" hint="name:port, *.suffix:port or a range of addresses:port. Without a port, to all that the policy means by that.">
        <input value={to} spellcheck={false} onInput={(e) => setTo(e.currentTarget.value)} />
      </Field>
      <p class="muted">It goes before all other rules of this sandbox and counts at once.</p>
    </Dialog>
  );
}
