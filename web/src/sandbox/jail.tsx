// The cage of the VMM, as the kernel reports it.

import { get, sandboxPath } from "../api";
import { size } from "../text";
import type { Activity, Cage, Sandbox } from "../types";
import { useLoad } from "../ui/load";
import { Empty, Failure, Notice } from "../ui/parts";
import { up } from "../ui/state";

export function Jail({ box }: { box: Activity }) {
  const full = useLoad((s) => get<Sandbox>(sandboxPath(box.sandboxID), s), [box.sandboxID, box.state, box.startedAt]);
  if (full.error !== undefined) return <Failure error={full.error} />;
  const cage = full.value?.vmm?.cage;
  if (!full.value) return <p class="muted pad" aria-busy="true">Loading…</p>;
  if (!cage && up(box)) return <Empty title="Your key may not look behind the wall."><p>What the host is made of needs a key with the scope “admin”, of the team that owns the host.</p></Empty>;
  if (!cage) return <Empty title="There is no VMM, and so no cage."><p>{box.name} is {box.state.replace("_", " ")}.</p></Empty>;
  return (
    <div class="jail">
      {box.accel === "tcg" && <Notice kind="warn"><strong>No hardware boundary.</strong> This guest runs in QEMU's translator. The cage below is all that is between it and the host.</Notice>}
      {cage.differences.length === 0
        ? <Notice kind="good">Every wall is as it must be. Compared with the kernel just now.</Notice>
        : (
          <Notice kind="bad" role="alert">
            <strong>Walls are not as they must be:</strong>
            <ul>{cage.differences.map((d) => <li key={d.what}>{d.what} is {d.got}, must be {d.want}</li>)}</ul>
          </Notice>
        )}
      <Facts cage={cage} pid={full.value.vmm?.pid ?? 0} vmm={`${full.value.vmm?.driver ?? ""} ${full.value.vmm?.version ?? ""}`} />
    </div>
  );
}

function Facts({ cage, pid, vmm }: { cage: Cage; pid: number; vmm: string }) {
  const limits = cage.limits;
  return (
    <>
      <dl class="facts">
        <dt>VMM</dt><dd>{vmm}, process {pid}</dd>
        <dt>User</dt><dd>{cage.uid}, of this sandbox alone</dd>
        <dt>Namespaces of its own</dt><dd>{(cage.ownNamespaces ?? []).join(", ") || "none"}</dd>
        <dt>Shared with the host</dt><dd>{cage.sharedNamespaces?.join(", ") || "none"}</dd>
        <dt>Capabilities</dt><dd>{cage.capabilities?.join(", ") || "none"}</dd>
        <dt>New privileges</dt><dd>{cage.noNewPrivs ? "never" : "possible"}</dd>
        <dt>System calls</dt><dd>{cage.seccompMode === 2 ? `filtered by ${cage.seccompFilters} filters` : "not filtered"}</dd>
        <dt>Can be traced or dumped</dt><dd>{cage.dumpable ? "yes" : "no"}</dd>
        <dt>Memory</dt><dd>{size(cage.memoryBytes)} of {limit(limits["memory_bytes"], size)}</dd>
        <dt>CPUs</dt><dd>{limit(limits["cpus"], String)}</dd>
        <dt>Processes</dt><dd>{cage.pids} of {limit(limits["pids"], String)}</dd>
        <dt>Open files</dt><dd>{limit(limits["open_files"], String)}</dd>
      </dl>
      <h3>Files that it sees</h3>
      <table class="list"><thead><tr><th>Path</th><th>Mounted</th></tr></thead>
        <tbody>{Object.entries(cage.mounts).sort().map(([path, how]) => <tr key={path}><td><code>{path}</code></td><td>{how}</td></tr>)}</tbody></table>
      <h3>Open descriptors</h3>
      <table class="list"><thead><tr><th class="num">Number</th><th>What</th></tr></thead>
        <tbody>{Object.entries(cage.descriptors).map(([n, what]) => <tr key={n}><td class="num">{n}</td><td><code>{what}</code></td></tr>)}</tbody></table>
    </>
  );
}

function limit(n: number | undefined, show: (n: number) => string): string {
  return n ? show(n) : "no limit";
}
