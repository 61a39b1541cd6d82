// What a tired operator runs into: many of everything, long and foreign names,
// the dark, a phone, a keyboard alone, and a daemon, a key or a sandbox that is
// suddenly gone. On a stage, because a test's machine has no month behind it.

import { check, fits, launch, open, phone, wide } from "./browser.mjs";
import { stage, world } from "./stage.mjs";

const id = (c) => "i" + c.repeat(20);
const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const same = (got, want, what) => {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: ${JSON.stringify(got)}, not ${JSON.stringify(want)}`);
};

// crowded is a host after a month.
function crowded() {
  const w = world((s) => s);
  const names = ["مرحبا-بالعالم", "שלום עולם.txt", "👩‍👩‍👧‍👦 family 🏳️‍🌈.md", "日本語のとても長いファイル名".repeat(6) + ".csv", "a".repeat(255), "plain.txt"];
  w.folder.entries = names.map((name, i) => ({ name, type: "file", size: 10 ** i, permissions: "-rw-r--r--", owner: "root", modified: ago(i * 9000) }));
  const long = w.overview.sandboxes[0];
  for (let i = 0; i < 60; i++) {
    w.overview.sandboxes.push({ ...long, sandboxID: "i" + String(i).padStart(20, "x"), name: i === 7 ? "n".repeat(63) : `crew-${i}`, metadata: { team: i % 2 ? "red" : "שלום" }, doing: ["日本語 🚀 " + "x".repeat(190)] });
  }
  const at = 200;
  w.timeline.snapshots = Array.from({ length: at }, (_, i) => ({
    snapshotID: "s" + i, parent: i === 0 ? undefined : "s" + (i % 17 === 16 ? i - 9 : i - 1), cause: i % 17 === 15 ? "before-rollback" : i % 5 ? "schedule" : "manual",
    name: i % 5 ? "" : `moment-${i}`, what: "", sandboxID: id("a"), createdAt: ago((at - i) * 900), stoppedMS: 20, ownBytes: i * 1e5,
  }));
  w.timeline.head = "s" + (at - 1);
  w.events = Array.from({ length: 10_000 }, (_, i) => ({
    seq: i + 1, time: ago((10_000 - i) * 60), type: i % 3 ? "egress.connection" : "snapshot.taken", sandboxID: id("a"),
    fields: { destination: i === 41 ? "needle.example:443" : `host-${i}.example:443`, rule: "packages", up: "10", down: "20" },
  }));
  w.overview.lastEvent = 10_000;
  w.overview.pending = Array.from({ length: 12 }, (_, i) => ({ sandboxID: id("a"), sandbox: "otter", destination: `${"long-".repeat(30)}${i}.example:443`, since: ago(i), waiting: i + 1 }));
  return w;
}

const tabs = ["timeline", "terminal", "files", "programs", "console", "jail", "schedule"];
const views = ["#/", "#/egress", "#/egress/" + id("a"), "#/events", "#/host", ...tabs.map((t) => `#/sandbox/${id("a")}/${t}`), `#/sandbox/${id("b")}`, `#/sandbox/${id("c")}`, `#/sandbox/${id("d")}`, "#/sandbox/gone"];

const stories = {
  async "every view, light on a desk and dark on a phone"({ page, s, wrong }) {
    for (const view of views) {
      await page.goto(s.url + "/" + view);
      await page.locator("#main").getByText(/\S/).first().waitFor();
      await page.locator("[aria-busy=true]").first().waitFor({ state: "detached" });
      for (const [colorScheme, size] of [["light", wide], ["dark", phone]]) {
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await page.setViewportSize(size);
        await check(page, wrong, `${view} ${colorScheme}`);
        await fits(page, `${view} ${colorScheme}`);
      }
      await page.setViewportSize(wide);
    }
  },

  async "the daemon goes and comes back"({ page, s, w, wrong }) {
    await page.goto(`${s.url}/#/sandbox/${id("a")}/programs`);
    await page.getByRole("cell", { name: "python3 agent.py" }).waitFor();
    await s.close();
    await page.getByRole("alert").filter({ hasText: "The daemon does not answer" }).waitFor();
    await page.getByText("reconnecting").waitFor();
    await page.getByRole("button", { name: "Look again" }).click();
    await page.getByRole("alert").filter({ hasText: /the daemon does not answer/ }).waitFor();
    w.programs.processes[1].command = "after the return";
    const back = await stage(w, s.port);
    try {
      // Everything is asked for again by itself, and the errors go.
      await page.getByRole("cell", { name: "after the return" }).waitFor();
      await page.getByRole("alert").first().waitFor({ state: "detached" });
    } finally {
      await page.close();
      await back.close();
    }
    wrong.length = 0; // the browser logs each attempt
  },

  async "the key is revoked"({ page, s, w, wrong }) {
    await page.goto(s.url + "/#/host");
    await page.getByRole("heading", { name: "Host" }).waitFor();
    const session = w.session;
    w.session = { name: "", team: "", scope: "none", csrf: "" };
    w.refuse = (path) => (path === "/session" || path === "/" || path.startsWith("/console/") ? undefined : { status: 401, message: "unauthorized" });
    s.drop();
    await page.getByRole("alert").filter({ hasText: "Your session has ended" }).waitFor();
    if (await page.locator(".top").count()) throw new Error("what was shown to the key is still there");
    w.session = session;
    w.refuse = undefined;
    await page.getByLabel("API key").fill("e2b_" + "1".repeat(40));
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { name: "Host" }).waitFor(); // where one was
    if (!wrong.every((m) => /401|INCOMPLETE_CHUNKED/.test(m))) throw new Error(wrong.join("\n"));
    wrong.length = 0;
  },

  async "the sandbox is removed meanwhile"({ page, s, w }) {
    await page.goto(`${s.url}/#/sandbox/${id("a")}/files`);
    await page.getByRole("button", { name: "plain.txt", exact: true }).waitFor();
    w.overview.sandboxes.shift();
    s.tell();
    await page.getByText("There is no such sandbox").waitFor();
    await page.getByRole("link", { name: "All sandboxes" }).click();
    await page.getByRole("heading", { name: "Fleet" }).waitFor();
  },

  async "ten thousand events"({ page, s }) {
    await page.goto(s.url + "/#/events");
    const rows = page.locator("table.events tbody tr");
    await rows.first().waitFor();
    same(await rows.count(), 500, "rows");
    await page.getByLabel("Search events").fill("needle");
    await page.getByRole("row", { name: /needle\.example/ }).waitFor();
    same(await rows.count(), 1, "rows with the word");
    await page.getByLabel("Search events").fill("");
    await page.getByRole("button", { name: "Older than No. 9501" }).click();
    await page.getByRole("cell", { name: "9500", exact: true }).waitFor();
    same(await rows.count(), 500, "older rows");
    await page.getByRole("button", { name: "The latest" }).click();
    await page.getByRole("cell", { name: "10000", exact: true }).waitFor();
  },

  async "two hundred snapshots, by keyboard and by thumb"({ page, s }) {
    await page.goto(`${s.url}/#/sandbox/${id("a")}/files`);
    const moment = page.getByRole("button", { name: /^moment-20 / });
    await moment.focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement?.classList.contains("moment-detail"));
    await page.keyboard.press("Tab");
    same(await page.evaluate(() => document.activeElement.textContent), "Roll back to this…", "the next control");
    await page.keyboard.press("Escape");
    same(await moment.evaluate((e) => e === document.activeElement), true, "the moment has the focus again");
    await page.setViewportSize(phone);
    await page.goto(`${s.url}/#/sandbox/${id("a")}/timeline`);
    await page.getByRole("button", { name: /^moment-150 / }).click();
    const roll = page.getByRole("button", { name: "Roll back to this…" });
    const box = await roll.boundingBox();
    if (!box || box.y < 0 || box.y + box.height > phone.height) throw new Error("the way back is outside of the window: " + JSON.stringify(box));
  },

  async "a process is ended, and that one alone"({ page, s }) {
    await page.goto(`${s.url}/#/sandbox/${id("a")}/programs`);
    await page.getByRole("button", { name: "End… process 911" }).click();
    same(s.asked, [], "asked before it was confirmed");
    await page.getByRole("button", { name: "Ask it to end" }).click();
    await page.getByText("Process 911 is asked to end").waitFor();
    await page.getByRole("button", { name: "End… process 911" }).click();
    await page.getByRole("button", { name: "Kill it" }).click();
    await page.getByText("Process 911 is killed").waitFor();
    same(s.asked.map((a) => [a.path, a.body]), [false, true].map((kill) => [`/sandboxes/${id("a")}/programs/911/signal`, { started: 8247, kill }]), "what was asked");
  },

  async "the schedule changes, and what is not shown of it stays"({ page, s }) {
    await page.goto(`${s.url}/#/sandbox/${id("a")}/schedule`);
    same(await page.getByLabel("Pause it to disk after").inputValue(), "1200", "a length that is no choice");
    await page.getByLabel("Take one every").selectOption("300");
    await page.getByLabel("Then").selectOption("rollback");
    await page.getByRole("button", { name: "Put in force" }).click();
    await page.getByText("The schedule is in force").waitFor();
    const { method, body } = s.asked[0];
    same([method, body], ["PUT", { everySeconds: 300, keep: { last: 8, hourly: 24, daily: 7 }, idleSeconds: 1200, before: { commands: ["rm -r*"], intervalSeconds: 60 }, onUnhealthy: "rollback" }], "the schedule");
  },

  async "nothing that cannot be undone is one press away"({ page, s }) {
    await page.goto(`${s.url}/#/sandbox/${id("a")}/jail`);
    await page.getByRole("button", { name: "Restart…" }).click();
    same(s.asked, [], "asked before it was confirmed");
    await page.getByRole("button", { name: "Take a snapshot, then restart" }).click();
    await page.getByText("was started anew").waitFor();
    same(s.asked.map((a) => a.path.split("/").pop()), ["snapshots", "restart"], "what was asked");
    s.asked.length = 0;
    await page.goto(`${s.url}/#/egress/${id("a")}`);
    await page.getByRole("button", { name: /^Add rule… host-9998/ }).click();
    same(s.asked, [], "asked before it was confirmed");
    await page.getByRole("textbox", { name: "To", exact: true }).fill("*.example:443");
    await page.getByRole("button", { name: "Deny from now on" }).click();
    await page.getByText("Denied to otter from now on").waitFor();
    same(s.asked.map((a) => a.body), [{ destination: "*.example:443", allow: false }], "the rule");
  },

  async "what is removed is asked for twice, in one breath"({ page, s }) {
    await page.goto(s.url + "/#/host");
    const revoke = page.getByRole("region", { name: "API keys" }).getByRole("button", { name: /evoke/ });
    await revoke.click();
    await page.getByRole("button", { name: "Really revoke console" }).waitFor();
    await page.getByLabel("Name of a key").focus();
    await page.getByRole("button", { name: "Revoke console", exact: true }).waitFor(); // it has been let go of
    same(s.asked, [], "asked before it was confirmed");
    const answered = page.waitForResponse((r) => r.request().method() === "DELETE");
    await revoke.click();
    await page.getByRole("button", { name: "Really revoke console" }).click();
    await answered;
    await page.waitForFunction(() => document.activeElement?.textContent.includes("evoke"));
    same(s.asked.map((a) => `${a.method} ${a.path}`), ["DELETE /keys/console"], "what was asked");
  },

  async "an upload says that it goes on"({ page, s, w }) {
    let done;
    w.slow = (path, _, method) => (path.endsWith("/file") && method === "PUT" ? new Promise((d) => { done = d; }) : undefined);
    await page.goto(`${s.url}/#/sandbox/${id("a")}/files`);
    await page.locator('input[type="file"]').setInputFiles({ name: "large.bin", mimeType: "text/plain", buffer: Buffer.alloc(2048) });
    await page.getByText("Uploading large.bin, 2.0 KiB").waitFor();
    done();
    await page.getByText("One file uploaded").waitFor();
    await page.getByText("Uploading").waitFor({ state: "detached" });
  },

  async "a policy is asked before it is in force"({ page, s }) {
    await page.goto(`${s.url}/#/egress/${id("a")}`);
    await page.getByText("Asks the policy in force.").waitFor();
    await page.getByLabel("Policy document").fill("version: 1\ndefault: deny\n");
    await page.getByText("which is not in force").waitFor();
    await page.getByRole("textbox", { name: "Destination" }).fill("pypi.org");
    await page.getByRole("button", { name: "Ask", exact: true }).click();
    await page.locator(".answer .mark").waitFor();
    same(s.asked.filter((a) => a.path.endsWith("/test")).map((a) => a.body), [{ destination: "pypi.org:443", policy: "version: 1\ndefault: deny\n" }], "what was asked");
  },

  async "connections have words for what became of them"({ page, s, w }) {
    const f = (more) => ({ destination: "a.example:443", rule: "r", ...more });
    w.events = [["opened", f()], ["connection", f({ up: "1", down: "2" })], ["denied", f()], ["asked", f()], ["answered", f({ allow: "true" })], ["answered", f({ allow: "false" })]]
      .map(([type, fields], i) => ({ seq: i + 1, time: ago(60 - i), type: "egress." + type, sandboxID: id("a"), fields }));
    await page.goto(`${s.url}/#/egress/${id("a")}`);
    const log = page.getByRole("region", { name: "Connections, the latest first" });
    await log.waitFor();
    const words = () => log.locator(".mark").allInnerTexts();
    same(await words(), ["rejected", "approved", "asked", "denied", "allowed", "allowed"], "verdicts");
    for (const [only, want] of [["denied", ["rejected", "denied"]], ["allowed", ["approved", "allowed", "allowed"]], ["asked", ["asked"]]]) {
      await page.getByLabel("Which connections").selectOption(only);
      same(await words(), want, only);
    }
  },

  async "what is written is not lost by looking elsewhere"({ page, s }) {
    await page.goto(`${s.url}/#/sandbox/${id("a")}/files`);
    await page.getByRole("button", { name: "plain.txt", exact: true }).click();
    await page.getByLabel("Contents of the file").fill("half a thought");
    await page.getByRole("link", { name: "Events", exact: true }).first().click();
    await page.getByRole("heading", { name: "Events" }).waitFor();
    await page.goBack();
    await page.getByText("Not saved:").waitFor();
    await page.getByRole("button", { name: "Go on" }).click();
    same(await page.getByLabel("Contents of the file").inputValue(), "half a thought", "the draft");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.getByText("Saved", { exact: true }).waitFor();
    same(s.asked.at(-1).body, "half a thought", "the file");
    await page.getByRole("link", { name: "Processes", exact: true }).click();
    await page.getByRole("link", { name: "Files", exact: true }).click();
    await page.getByRole("button", { name: "plain.txt", exact: true }).waitFor();
    same(await page.getByText("Not saved:").count(), 0, "drafts that are saved");
  },

  async "a folder that is slow to answer is not mistaken for the one before it"({ page, s, w }) {
    w.folder.entries = [{ name: "deep", type: "folder", size: 0, permissions: "drwxr-xr-x", owner: "root", modified: ago(1) }, ...w.folder.entries];
    let answer;
    w.slow = (path, q) => (path.endsWith("/folder") && q.get("path") === "/root/deep" ? new Promise((done) => { answer = done; }) : undefined);
    await page.goto(`${s.url}/#/sandbox/${id("a")}/files`);
    await page.getByRole("button", { name: "deep/" }).click();
    await page.getByRole("button", { name: "deep /" }).waitFor();
    const at = await page.getByRole("row", { name: /plain\.txt/ }).getByRole("link", { name: /Download/ }).getAttribute("href");
    if (!at.endsWith("path=%2Froot%2Fplain.txt")) throw new Error("a file of /root leads to " + at);
    answer();
  },

  async "the way back leads to the same rows, and to the focus"({ page, s }) {
    await page.goto(s.url + "/#/");
    await page.getByLabel("Search").fill("crew-3");
    await page.getByRole("link", { name: "crew-33", exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: /crew-33/ }).waitFor();
    same(await page.title(), "(12) crew-33 · Bulkhead", "the title");
    same(await page.evaluate(() => document.activeElement === document.body), false, "the focus is lost");
    await page.goBack();
    await page.getByRole("link", { name: "crew-33", exact: true }).waitFor();
    same(await page.getByLabel("Search").inputValue(), "crew-3", "the search");
  },

  async "a terminal shows colours that are none of the theme's, and what is selected"({ page, s, w }) {
    w.console = "\x1b[38;2;10;40;200mtrue-colour\x1b[0m \x1b[48;2;250;240;120;38;5;21mmarked\x1b[0m \x1b[4:3;58;2;200;0;0mwavy\x1b[0m\n";
    await page.goto(`${s.url}/#/sandbox/${id("a")}/terminal`);
    const cell = page.locator(".xterm-rows").getByText("true-colour", { exact: true });
    await cell.waitFor();
    same(await cell.evaluate((e) => getComputedStyle(e).color), "rgb(10, 40, 200)", "the colour");
    await cell.dblclick({ force: true });
    await page.locator(".xterm-selection div").first().waitFor({ state: "attached" });
  },

  async "ten tabs at once"({ page, s, context }) {
    // A browser of a test shows all tabs at once; these say that they are not seen.
    const look = (p, hidden) => p.evaluate((h) => {
      Object.defineProperty(document, "hidden", { value: h, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await context.addInitScript(() => {
      window.storms = 0;
      window.addEventListener("storage", () => window.storms++);
    });
    await page.goto(s.url + "/#/");
    await page.getByText("live", { exact: true }).waitFor();
    let last = page;
    for (let i = 0; i < 9; i++) {
      const next = await context.newPage();
      await next.goto(`${s.url}/#/sandbox/${id("a")}/jail`);
      await next.getByText("Every wall is as it must be").waitFor();
      await look(last, true);
      last = next;
    }
    if (s.watchers() > 2) throw new Error(`${s.watchers()} tabs listen`);
    await look(page, false);
    s.world.overview.sandboxes[0].name = "renamed";
    s.tell();
    await page.getByRole("link", { name: "renamed", exact: true }).waitFor();
    // The two that are seen at the same time do not answer each other for ever.
    await page.reload();
    await page.getByText("live", { exact: true }).waitFor();
    const said = await page.evaluate(() => window.storms);
    if (said > 2) throw new Error(`the tabs have told each other ${said} times`);
  },

  async "a command is copied, with and without a clipboard"({ page, s, context }) {
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: s.url });
    for (const without of [false, true]) {
      if (without) await page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
      await page.goto(`${s.url}/#/sandbox/${id("a")}/programs`);
      await page.reload();
      await page.getByRole("button", { name: "Copy" }).first().click();
      await page.getByRole("button", { name: "Copied" }).waitFor();
    }
    const other = await context.newPage();
    await other.goto(s.url);
    same(await other.evaluate(() => navigator.clipboard.readText()), "bulkhead forward otter 22", "the clipboard");
  },

  async "the chosen theme is there from the first moment"({ page, s, w }) {
    await page.goto(s.url + "/#/");
    await page.getByLabel("Theme").selectOption("dark");
    w.slow = (path) => (path === "/session" ? new Promise(() => {}) : undefined); // it never says who is signed in
    await page.reload();
    await page.getByText("Loading").waitFor();
    same(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(13, 17, 21)", "the background");
  },
};

const browser = await launch();
for (const [name, tell] of Object.entries(stories)) {
  if (process.env.ONLY && !name.includes(process.env.ONLY)) continue;
  const w = crowded();
  const s = await stage(w);
  const { page, context, wrong } = await open(browser, { viewport: wide, origin: s.url });
  page.setDefaultTimeout(90_000);
  const began = Date.now();
  try {
    await tell({ page, context, s, w, wrong });
    if (!page.isClosed()) await check(page, wrong, name);
    console.log(`${name}: ${((Date.now() - began) / 1000).toFixed(1)} s`);
  } catch (e) {
    process.exitCode = 1;
    console.log(`FAILED ${name}: ${e.message}`);
    if (!page.isClosed()) await page.screenshot({ path: `${process.env.FAILURES ?? "/tmp"}/${name.replaceAll(/[ ,]+/g, "-")}.png` });
  } finally {
    await context.close();
    await s.close().catch(() => {}); // a story may have closed it
  }
}
await browser.close();
