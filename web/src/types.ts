// What the API says, as package client writes it.

export type State =
  | "creating" | "starting" | "running" | "held" | "suspended" | "paused"
  | "rolling_back" | "stopped" | "crashed" | "removing";

export interface Sandbox {
  sandboxID: string;
  name: string;
  templateID: string;
  state: State;
  reason?: string;
  unhealthy?: string;
  hint?: string;
  createdAt: string;
  startedAt: string;
  cpuCount: number;
  memoryMB: number;
  memoryUsedMB?: number;
  diskSizeMB: number;
  metadata?: Record<string, string>;
  head?: string;
  accel: string;
  vmm?: { driver: string; version: string; pid: number; cage?: Cage };
  consoleTail?: string;
  schedule?: Schedule;
}

// Schedule is what is done for a sandbox while nobody looks. What is not here is
// kept as it is.
export interface Schedule {
  everySeconds?: number;
  keep: { last: number; hourly: number; daily: number };
  idleSeconds?: number;
  suspendSeconds?: number;
  keepAlive?: boolean;
  wake?: string;
  expiresAt?: string;
  expiry?: string;
  onUnhealthy?: string;
  before?: { commands?: string[]; contact?: boolean; intervalSeconds?: number };
}

// Forked is what became of one fork of those asked for.
export interface Forked {
  sandbox?: Sandbox;
}

export interface Cage {
  uid: number;
  ownNamespaces: string[] | null;
  sharedNamespaces?: string[];
  capabilities?: string[];
  noNewPrivs: boolean;
  seccompMode: number;
  seccompFilters: number;
  dumpable: boolean;
  mounts: Record<string, string>;
  descriptors: Record<string, string>;
  limits: Record<string, number>;
  memoryBytes: number;
  pids: number;
  differences: { what: string; want: string; got: string }[];
}

export interface SnapshotMark {
  snapshotID: string;
  name?: string;
  createdAt: string;
  cause: string;
}

export interface Load {
  cpuPercent: number;
  memoryMB: number;
}

export interface Activity extends Sandbox {
  cpuPercent: number;
  doing: string[];
  hour: Load[];
  lastSnapshot?: SnapshotMark;
  allowed: number;
  denied: number;
}

export interface Question {
  sandboxID: string;
  sandbox: string;
  destination: string;
  since: string;
  waiting: number;
}

export interface Overview {
  lastEvent: number;
  sandboxes: Activity[];
  pending: Question[];
  host: { cpus: number; memoryTotalMB: number; memoryFreeMB: number; poolTotal: number; poolFree: number };
}

export interface AuditEvent {
  seq: number;
  time: string;
  type: string;
  sandboxID?: string;
  fields?: Record<string, string>;
}

export interface Snapshot extends SnapshotMark {
  sandboxID: string;
  parent?: string;
  what?: string;
  stoppedMS: number;
  ownBytes: number;
}

export interface Timeline {
  sandboxID: string;
  head?: string;
  snapshots: Snapshot[];
}

export interface FileChange {
  kind: "added" | "removed" | "changed";
  path: string;
  folder?: boolean;
  sizeBefore: number;
  sizeAfter: number;
}

export interface RollbackResult {
  sandbox: Sandbox;
  snapshot: Snapshot;
  durationMS: number;
  kept?: string;
  lost?: string;
}

export interface FileEntry {
  name: string;
  type: "file" | "folder" | "other";
  link?: string;
  size: number;
  permissions: string;
  owner: string;
  modified: string;
}

export interface Folder {
  path: string;
  entries: FileEntry[];
  more?: boolean;
}

export interface Process {
  pid: number;
  ppid: number;
  command: string;
  state: string;
  cpuSeconds: number;
  memoryBytes: number;
  ageSeconds: number;
  started: number;
}

export interface Programs {
  processes: Process[];
  ports: { port: number; loopback: boolean }[];
}

export interface Egress {
  sandboxID: string;
  policy: string;
  dropped: Record<string, number> | null;
  used: { destination: string; connections: number; open: number; upBytes: number; downBytes: number }[];
  budgets: { for: string; limits: string; upBytes: number; upLimit?: number; downBytes: number; downLimit?: number }[];
  denied: { time: string; destination: string; rule: string; reason?: string; count: number }[];
}

export interface Verdict {
  destination: string;
  allowed: boolean;
  asks?: boolean;
  rule: string;
}

export interface EgressChange {
  destination: string;
  allowed: boolean;
  count: number;
  now: string;
  rule: string;
}

export interface EgressCheck {
  mistake?: string;
  hint?: string;
  changes: EgressChange[];
}

export interface Template {
  templateID: string;
  name: string;
  createdAt: string;
  cpuCount: number;
  memoryMB: number;
  diskSizeMB: number;
  kernel: string;
  ownBytes: number;
  sandboxes: number;
}

export interface BuildEvent {
  step?: string;
  number?: number;
  of?: number;
  done?: boolean;
  elapsedMS?: number;
  log?: string;
  template?: Template;
  error?: ApiErrorBody;
}

export interface Secret {
  name: string;
  set: string;
  usedBy: string[];
}

export interface Info {
  version: string;
  accel: string;
  hardwareBoundary: boolean;
  stateDir: string;
  pid: number;
  poolTotal: number;
  poolFree: number;
  jailLacks?: string[];
}

export interface EventsReport {
  first: number;
  last: number;
  hash: string;
}

export interface Check {
  name: string;
  status: string;
  detail: string;
  mend?: string;
}

export interface ApiErrorBody {
  code: number;
  message: string;
  error_code?: string;
  hint?: string;
  requestID?: string;
}
