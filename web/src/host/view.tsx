// The host: what it stands on, what it has left, and what it keeps.

import { get } from "../api";
import { useLive } from "../live";
import { useMay } from "../session";
import { percent, shown, size } from "../text";
import type { Check, Info, Template } from "../types";
import { useLoad } from "../ui/load";
import { Empty, Failure, Notice, Panel } from "../ui/parts";
import { Keys } from "./keys";
import { Secrets } from "./secrets";

export function HostView() {
  const info = useLoad((s) => get<Info>("/version", s), []);
  const admin = useMay("admin");
  return (
    <>
      <div class="view-head"><h1>Host</h1></div>
      {info.error !== undefined && <Failure error={info.error} />}
      {info.value && <Boundary info={info.value} />}
      <div class="columns even">
        <div>
          {info.value && <Resources info={info.value} />}
          <Findings />
          <Templates />
        </div>
        <div>
          {admin ? <><Secrets /><Keys /></> : <Panel title="Keys and secrets"><Empty title="Your key may not manage these."><p>That needs the scope “admin”.</p></Empty></Panel>}
        </div>
      </div>
    </>
  );
}

function Boundary({ info }: { info: Info }) {
  if (info.hardwareBoundary) return <Notice kind="good"><strong>Hardware boundary: KVM.</strong> Each guest is behind the CPU's virtualization.</Notice>;
  return <Notice kind="warn"><strong>No hardware boundary: {info.accel}.</strong> Guests run in QEMU's translator. It is slow, and a flaw in it is a way to the jail around it: do not keep hostile code behind it.</Notice>;
}

function Resources({ info }: { info: Info }) {
  const { overview } = useLive();
  const host = overview?.host;
  return (
    <Panel title="Resources">
      <dl class="facts">
        <dt>Version</dt><dd>{info.version}</dd>
        <dt>Pool</dt><dd><Meter label="Pool in use" used={(host?.poolTotal ?? info.poolTotal) - (host?.poolFree ?? info.poolFree)} total={host?.poolTotal ?? info.poolTotal} /></dd>
        {host && <><dt>Memory</dt><dd><Meter label="Memory in use" used={(host.memoryTotalMB - host.memoryFreeMB) * 2 ** 20} total={host.memoryTotalMB * 2 ** 20} /></dd>
          <dt>CPUs</dt><dd>{host.cpus}, of which sandboxes take {percent((overview?.sandboxes ?? []).reduce((n, s) => n + s.cpuPercent, 0))}</dd></>}
        {info.stateDir && <><dt>State</dt><dd><code>{info.stateDir}</code></dd></>}
        {info.jailLacks && info.jailLacks.length > 0 && <><dt>Jails go without</dt><dd class="bad-text">{info.jailLacks.join(", ")}</dd></>}
      </dl>
    </Panel>
  );
}

function Meter({ label, used, total }: { label: string; used: number; total: number }) {
  const share = total > 0 ? used / total : 0;
  return (
    <>
      <meter aria-label={label} min={0} max={1} low={0.85} high={0.95} optimum={0} value={share} />
      <small> {size(used)} of {size(total)}</small>
    </>
  );
}

const tones: Record<string, "good" | "warn" | "bad"> = { ok: "good", pass: "good", warn: "warn", warning: "warn", fail: "bad", bad: "bad" };

function Findings() {
  const checks = useLoad((s) => get<Check[]>("/doctor", s), []);
  return (
    <Panel title="Doctor's findings" aside={<button type="button" class="small" onClick={checks.again} aria-busy={checks.loading}>Examine again</button>}>
      {checks.error !== undefined && <Failure error={checks.error} />}
      <ul class="findings">
        {checks.value?.map((c) => (
          <li key={c.name}>
            <span class={`mark ${{ good: "allowed", warn: "asked", bad: "denied" }[tones[c.status] ?? "warn"]}`}>{c.status}</span>
            <div><strong>{c.name}</strong> {shown(c.detail)}{c.mend && <div class="hint"><code>{shown(c.mend)}</code></div>}</div>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function Templates() {
  const all = useLoad((s) => get<Template[]>("/templates", s), []);
  return (
    <Panel title="Templates">
      {all.error !== undefined && <Failure error={all.error} />}
      {all.value?.length === 0 && <Empty title="No templates yet."><p>The fleet's page leads to the first one.</p></Empty>}
      {all.value && all.value.length > 0 && (
        <table class="list cards">
          <thead><tr><th>Name</th><th class="num">CPUs</th><th class="num">Memory</th><th>Kernel</th><th class="num">Costs</th><th class="num">Sandboxes</th></tr></thead>
          <tbody>{all.value.map((t) => (
            <tr key={t.name}><td data-label="Name">{t.name}</td><td class="num" data-label="CPUs">{t.cpuCount}</td><td class="num" data-label="Memory">{t.memoryMB} MiB</td>
              <td data-label="Kernel"><small>{shown(t.kernel, 60)}</small></td><td class="num" data-label="Costs">{size(t.ownBytes)}</td><td class="num" data-label="Sandboxes">{t.sandboxes}</td></tr>
          ))}</tbody>
        </table>
      )}
    </Panel>
  );
}
