// A daemon for the page alone: it answers what the API answers, with text that
// the caller chooses in every field that a guest or a client can fill. Stories
// on real machines are in story.mjs; this one reaches fields that a machine of a
// test cannot.

import { readFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const dist = new URL("../../internal/server/page/dist/", import.meta.url);
const types = { ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html" };
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();

// world is what there is; say gives the text of a field.
export function world(say) {
  const hour = Array.from({ length: 60 }, (_, i) => ({ cpuPercent: 20 + 18 * Math.sin(i / 4) + (i % 7) * 3, memoryMB: 300 }));
  const quiet = hour.map(() => ({ cpuPercent: 0, memoryMB: 90 }));
  const id = (c) => "i" + c.repeat(20);
  const box = (c, name, state, more = {}) => ({
    sandboxID: id(c), name, templateID: say("base"), state, createdAt: ago(86400 * 2), startedAt: ago(3600), cpuCount: 1, memoryMB: 512,
    memoryUsedMB: state === "running" ? 341 : undefined, diskSizeMB: 8192, accel: "tcg", cpuPercent: state === "running" ? 24.3 : 0,
    doing: state === "running" ? [say("python3 agent.py --task refactor"), say("make -j2 test")] : [], hour: state === "running" ? hour : quiet,
    lastSnapshot: { snapshotID: "s" + c.repeat(20), name: say("monday"), createdAt: ago(1200), cause: say("schedule") },
    allowed: 128, denied: 3, metadata: { env: say("prod") }, schedule: { everySeconds: 900, keep: { last: 8, hourly: 24, daily: 7 }, idleSeconds: 1200, before: { commands: [say("rm -r*")], intervalSeconds: 60 } }, vmm: state === "running" ? { driver: "qemu", version: "7.2.22", pid: 4711 } : undefined, ...more,
  });
  const sandboxes = [
    box("a", "otter", "running"),
    box("b", "heron", "running", { unhealthy: say("/etc/passwd is gone"), hour: quiet, cpuPercent: 0.2, doing: [] }),
    box("c", "badger", "paused", { metadata: {} }),
    box("d", "lynx", "crashed", { reason: say("VMM died: its jail does not allow the system call ptrace"), hint: say("bulkhead rollback lynx") }),
  ];
  const snap = (n, parent, cause, name, seconds) => ({
    snapshotID: "s" + n, parent, cause: say(cause), name: name && say(name), what: say("rm -rf /srv"), sandboxID: id("a"), createdAt: ago(seconds), stoppedMS: 21.4, ownBytes: 3_400_000 * seconds % 90_000_000,
  });
  const snapshots = [
    snap("01", undefined, "manual", "clean", 90000), snap("02", "s01", "schedule", "", 80000), snap("03", "s02", "schedule", "", 70000),
    snap("04", "s02", "manual", "before upgrade", 50000), snap("05", "s03", "before-rollback", "", 45000), snap("06", "s04", "schedule", "", 9000), snap("07", "s06", "before-exec", "", 1200),
  ];
  const event = (seq, type, sandbox, fields) => ({ seq, time: ago(4000 - seq * 30), type, sandboxID: sandbox, fields });
  const events = [
    event(1, "daemon.started", undefined, { version: say("1.0") }),
    event(2, "sandbox.created", id("a"), { name: say("otter"), template: say("base") }),
    event(3, "egress.connection", id("a"), { destination: say("pypi.org:443"), rule: say("packages: pypi.org"), up: "2048", down: "912345", reason: "" }),
    event(4, "egress.denied", id("a"), { destination: say("exfil.example"), rule: say("default: deny"), reason: say("no such rule") }),
    event(5, "sandbox.unhealthy", id("b"), { why: say("/etc/passwd is gone"), console: say("x") }),
    event(6, "sandbox.died", id("d"), { reason: say("VMM died") }),
    event(7, "snapshot.taken", id("a"), { snapshot: "s07", cause: say("before-exec") }),
  ];
  return {
    overview: {
      lastEvent: 7, sandboxes,
      pending: [{ sandboxID: id("a"), sandbox: "otter", destination: say("api.example.com:443"), since: ago(40), waiting: 1 }],
      host: { cpus: 2, memoryTotalMB: 24000, memoryFreeMB: 21000, poolTotal: 64 * 2 ** 30, poolFree: 51 * 2 ** 30 },
    },
    events,
    timeline: { sandboxID: id("a"), head: "s07", snapshots },
    diff: [
      { kind: "changed", path: say("/etc/nginx/nginx.conf"), sizeBefore: 1200, sizeAfter: 1490 },
      { kind: "added", path: say("/root/dump.sql"), sizeBefore: 0, sizeAfter: 10_400_000 },
      { kind: "removed", path: say("/srv/app"), folder: true, sizeBefore: 4096, sizeAfter: 0 },
    ],
    folder: {
      path: "/root", entries: [
        { name: say("projects"), type: "folder", size: 4096, permissions: "drwxr-xr-x", owner: say("root"), modified: ago(4000) },
        { name: say("notes.txt"), type: "file", size: 812, permissions: "-rw-r--r--", owner: say("root"), modified: ago(400), link: say("/etc/passwd") },
        { name: say("socket"), type: "other", size: 0, permissions: "srwxr-xr-x", owner: say("agent"), modified: ago(40) },
      ],
    },
    file: say("remember the milk\n"),
    programs: {
      ports: [{ port: 8080, loopback: true }, { port: 22, loopback: false }],
      processes: [
        { pid: 1, ppid: 0, command: say("/sbin/init"), state: "S", cpuSeconds: 4.2, memoryBytes: 9e6, ageSeconds: 86000, started: 3 },
        { pid: 911, ppid: 1, command: say("python3 agent.py"), state: say("R"), cpuSeconds: 120.5, memoryBytes: 8e7, ageSeconds: 3600, started: 8247 },
      ],
    },
    console: say("[    0.000000] Linux version 6.1.0\r\n[    1.2] systemd[1]: Started counter.\r\n"),
    cage: {
      uid: 1879048193, ownNamespaces: ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"], noNewPrivs: true, seccompMode: 2, seccompFilters: 2, dumpable: false,
      mounts: { "/": "ro,nosuid", "/memory": "rw" }, descriptors: { 0: "/dev/null", 3: "tap" }, limits: { memory_bytes: 8e8, cpus: 1, pids: 64, open_files: 256 }, memoryBytes: 3.4e8, pids: 6, differences: [],
    },
    egress: {
      sandboxID: id("a"), policy: "version: 1\nuse: [packages]\ndefault: ask\nrules:\n  - {name: \"*.example.com\", ports: [443], action: allow}\n", dropped: { udp: 12 },
      used: [
        { destination: say("pypi.org:443"), connections: 41, open: 1, upBytes: 81_000, downBytes: 14_900_000 },
        { destination: say("mirror.example:80"), connections: 12, open: 0, upBytes: 22_000, downBytes: 48_100_000 },
        { destination: say("api.example.com:443"), connections: 75, open: 2, upBytes: 3_200_000, downBytes: 1_100_000 },
      ],
      budgets: [], denied: [],
    },
    doctor: [
      { name: "accelerator", status: "warn", detail: say("QEMU's translator: no hardware boundary"), mend: "use a machine with /dev/kvm" },
      { name: "pool", status: "ok", detail: say("XFS with reflinks") },
      { name: "tools", status: "ok", detail: "all there" },
    ],
    templates: [{ templateID: "base", name: "base", createdAt: ago(900000), cpuCount: 1, memoryMB: 512, diskSizeMB: 8192, kernel: say("6.1.0-41-cloud-amd64"), accel: "tcg", ownBytes: 6e8, sandboxes: 4 }],
    secrets: [{ name: "openai", set: ago(90000), usedBy: [say("otter")] }],
    keys: [{ name: "console", team: "default", scope: "admin", createdAt: ago(90000), usedAt: ago(60) }],
    info: { version: "1.0", accel: "tcg", hardwareBoundary: false, stateDir: "/var/lib/bulkhead", pid: 1, poolTotal: 64 * 2 ** 30, poolFree: 51 * 2 ** 30 },
    session: { name: "console", team: "default", scope: "admin", csrf: "token" },
  };
}

const routes = [
  [/^\/session$/, (w) => w.session], [/^\/overview$/, (w) => w.overview], [/^\/sandboxes\/[^/]+\/timeline$/, (w) => w.timeline],
  [/\/folder$/, (w, q) => w.folders?.[q.get("path")] ?? w.folder], [/\/programs$/, (w) => w.programs], [/\/egress$/, (w) => w.egress], [/\/egress\/check$/, () => ({ changes: [] })],
  [/\/egress\/test$/, (w) => ({ destination: w.egress.used[0].destination, allowed: false, rule: w.events[3].fields.rule })],
  [/^\/doctor$/, (w) => w.doctor], [/^\/templates$/, (w) => w.templates], [/^\/secrets$/, (w) => w.secrets], [/^\/keys$/, (w) => w.keys],
  [/\/signal$/, () => ({})], [/^\/keys\/[^/]+$/, () => ({})], [/\/egress\/rules$/, (w) => w.egress], [/\/schedule$/, (w) => w.overview.sandboxes[0]], [/\/restart$/, (w) => w.overview.sandboxes[0]], [/\/snapshots$/, (w) => w.timeline.snapshots[0]],
  [/^\/version$/, (w) => w.info], [/^\/events\/verified$/, (w) => ({ first: 1, last: 7, hash: "9f86d081884c7d65" })],
  [/^\/sandboxes\/[^/]+$/, (w) => ({ ...w.overview.sandboxes[0], vmm: { driver: "qemu", version: "7.2.22", pid: 4711, cage: w.cage } })],
];

// terminal is a shell that prints something (RFC 6455).
function terminal(req, socket, output) {
  const accept = createHash("sha1").update(req.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  const frame = (opcode, data) => {
    const head = Buffer.from([0x80 | opcode, 126, data.length >> 8, data.length & 0xff]);
    socket.write(Buffer.concat([data.length < 126 ? Buffer.from([0x80 | opcode, data.length]) : head, data]));
  };
  frame(1, Buffer.from(JSON.stringify({ from: 0, shell: "one", fresh: true })));
  frame(2, Buffer.from(output.replaceAll("\n", "\r\n")).subarray(0, 60_000));
  socket.on("error", () => {});
}

// stage serves a world and returns its address, what it was asked to change, ways
// to tell the page of something, and the way to end it. A world may refuse: by
// the status that it gives for a path.
export async function stage(w, port = 0) {
  const open = new Set();
  const watchers = new Set();
  const asked = [];
  const server = createServer(async (req, res) => {
    const { pathname, searchParams } = new URL(req.url, "http://x");
    const refused = w.refuse?.(pathname, searchParams);
    if (refused) {
      res.writeHead(refused.status, { "Content-Type": "application/json" }).end(JSON.stringify({ code: refused.status, ...refused }));
      return;
    }
    if (req.method !== "GET") {
      const parts = [];
      for await (const p of req) parts.push(p);
      const body = Buffer.concat(parts).toString();
      asked.push({ method: req.method, path: pathname, query: searchParams, body: /^[{[]/.test(body) ? JSON.parse(body) : body });
    }
    await w.slow?.(pathname, searchParams, req.method);
    const lines = (all) => res.writeHead(200, { "Content-Type": "application/x-ndjson" }).end(all.map((v) => JSON.stringify(v) + "\n").join(""));
    if (pathname === "/" || pathname.startsWith("/console/")) {
      const name = pathname === "/" ? "index.html" : pathname.slice("/console/".length);
      const body = await readFile(new URL(name, dist));
      res.writeHead(200, { "Content-Type": types[name.slice(name.lastIndexOf("."))], "Content-Security-Policy": policy }).end(body);
    } else if (pathname === "/live") {
      res.writeHead(200, { "Content-Type": "text/event-stream" });
      res.write(`event: overview\ndata: ${JSON.stringify(w.overview)}\n\n`);
      watchers.add(res);
      res.on("close", () => watchers.delete(res));
    } else if (pathname === "/events") {
      const [since, box, type] = [Number(searchParams.get("since") ?? 0), searchParams.get("sandbox"), searchParams.get("type")];
      lines(w.events.filter((e) => e.seq > since && (!box || e.sandboxID === box) && (!type || e.type === type || e.type.startsWith(type + "."))));
    } else if (pathname.endsWith("/diff")) {
      lines(w.diff);
    } else if (pathname.endsWith("/console")) {
      res.writeHead(200, { "Content-Type": "application/octet-stream" });
      res.write(w.console);
    } else if (pathname.endsWith("/file")) {
      res.writeHead(200, { "Content-Type": "application/octet-stream" }).end(searchParams.get("at") ? "as it was\n" : w.file);
    } else {
      const route = routes.find(([form]) => form.test(pathname));
      if (!route) {
        res.writeHead(404, { "Content-Type": "application/json" }).end(JSON.stringify({ code: 404, message: "no route " + pathname }));
        return;
      }
      res.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(route[1](w, searchParams)));
    }
  });
  server.on("upgrade", (req, socket) => terminal(req, socket, w.console));
  server.on("connection", (c) => {
    open.add(c);
    c.on("close", () => open.delete(c));
  });
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    port: server.address().port,
    asked,
    world: w,
    watchers: () => watchers.size,
    tell: () => watchers.forEach((res) => res.write(`event: overview\ndata: ${JSON.stringify(w.overview)}\n\n`)),
    drop: () => watchers.forEach((res) => res.destroy()),
    close: () => {
      for (const c of open) c.destroy();
      return new Promise((done) => server.close(done));
    },
  };
}
