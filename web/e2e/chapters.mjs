// The chapters of the story, each from where the one before it ends.

import { phone, wide } from "./browser.mjs";

// says waits for text in the terminal.
export async function says(page, text) {
  await page.waitForFunction((t) => document.querySelector(".xterm-rows")?.textContent.replaceAll("\u00a0", " ").includes(t), text);
}

// shell waits for the terminal and types a line.
export async function type(page, line) {
  await page.locator('[data-status="open"]').waitFor();
  await page.locator(".xterm-helper-textarea").focus();
  await page.keyboard.type(line);
  await page.keyboard.press("Enter");
}

export async function signIn({ page, base, look, wrong }, key) {
  await page.goto(base);
  await page.getByLabel("API key").fill("e2b_" + "0".repeat(40));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  const refusal = wrong.findIndex((w) => /status of 401/.test(w)); // the browser logs that by itself
  if (refusal < 0 || wrong.length !== 1) throw new Error("a bad key: " + wrong.join("\n"));
  wrong.length = 0;
  await look("login");
  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "No sandboxes yet" }).waitFor();
  const cookies = await page.context().cookies();
  const session = cookies.find((c) => c.name === "bulkhead_session");
  if (!session?.httpOnly || session.sameSite !== "Strict") throw new Error("the cookie is " + JSON.stringify(cookies));
  if (await page.evaluate((k) => document.cookie !== "" || JSON.stringify(localStorage).includes(k) || JSON.stringify(sessionStorage).includes(k), key)) {
    throw new Error("the page keeps the key");
  }
  await look("first-run");
}

export async function create({ page, look }) {
  await page.getByRole("button", { name: "Create the first sandbox" }).click();
  await page.locator('[data-status="open"]').waitFor();
  await page.getByRole("link", { name: "Fleet", exact: true }).first().click();
  await page.getByRole("button", { name: "New sandbox" }).click();
  await page.getByLabel("Name").fill("otter");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByRole("heading", { name: /otter/ }).waitFor();
  await type(page, "echo sum-$((40+2))");
  await says(page, "sum-42");
  await look("sandbox");
}

// paste puts what the page has copied into the shell.
async function paste(page) {
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"], { origin: new URL(page.url()).origin });
  await type(page, "clear; echo copied-$((6*7))-text");
  await says(page, "copied-42-text");
  await page.locator(".xterm-rows").getByText("copied-42-text", { exact: true }).dblclick({ force: true, position: { x: 20, y: 8 } });
  await page.keyboard.press("Control+Shift+C");
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  if (copied !== "copied-42-text") throw new Error("copied is " + JSON.stringify(copied));
  await page.evaluate(() => navigator.clipboard.writeText("echo pasted-$((4+5))"));
  await page.locator(".xterm-helper-textarea").focus();
  await page.keyboard.press("Control+Shift+V");
  await says(page, "echo pasted-$((4+5))");
  await page.keyboard.press("Enter");
  await says(page, "pasted-9");
}

export async function work({ page, look }) {
  await type(page, "kept=yes; cd /srv; printf 'precious\\n' > precious; clear; echo written-$((1+1))");
  await says(page, "written-2");
  // The shell is the same one after the page was loaded anew.
  await page.reload();
  await type(page, "echo kept-$kept-$PWD");
  await says(page, "kept-yes-/srv");
  // The shell is as wide as what is seen of it, and stays so.
  const size = async (mark) => {
    await type(page, `clear; echo ${mark}-$(stty size | tr ' ' x)-`);
    await page.waitForFunction((m) => new RegExp(m + "-\\d+x\\d+-").test(document.querySelector(".xterm-rows").textContent), mark);
    return (await page.locator(".xterm-rows").textContent()).match(new RegExp(mark + "-(\\d+)x(\\d+)-")).slice(1).map(Number);
  };
  const large = await size("large");
  await page.setViewportSize(phone);
  await page.goto(page.url()); // the terminal is not what is seen first on a phone
  const small = await size("small");
  await page.setViewportSize(wide);
  await page.waitForFunction(() => document.querySelector(".xterm-rows").clientWidth > 600);
  if (!(large[1] > 80 && small[1] < 60 && small[1] > 20)) throw new Error(`the terminal has ${large} and ${small}`);
  await paste(page);

  await page.getByRole("link", { name: "Files", exact: true }).click();
  await page.getByRole("button", { name: "Root folder" }).or(page.getByTitle("Root folder")).first().click();
  await page.getByRole("button", { name: "srv/" }).click();
  await page.getByRole("button", { name: "precious", exact: true }).click();
  const editor = page.getByLabel("Contents of the file");
  if ((await editor.inputValue()) !== "precious\n") throw new Error("the file has " + (await editor.inputValue()));
  await editor.fill("precious\nand edited\n");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await page.getByText("Saved", { exact: true }).waitFor();
  await look("files");
  await page.getByRole("button", { name: "Close", exact: true }).click();
  await page.locator('input[type="file"]').setInputFiles({ name: "upload.txt", mimeType: "text/plain", buffer: Buffer.from("from the browser\n") });
  await page.getByRole("button", { name: "upload.txt", exact: true }).waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("row", { name: /upload\.txt/ }).getByRole("link", { name: "Download" }).click()]);
  const chunks = [];
  for await (const c of await download.createReadStream()) chunks.push(c);
  if (Buffer.concat(chunks).toString() !== "from the browser\n") throw new Error("downloaded " + Buffer.concat(chunks));

  await page.getByRole("link", { name: "Terminal", exact: true }).click();
  await type(page, "clear; cat /srv/precious");
  await says(page, "and edited");
  await page.getByRole("button", { name: "Take a snapshot" }).click();
  await page.getByRole("button", { name: /taken by hand/ }).waitFor();
}

// opened follows a port's button to what listens there: another origin, which
// knows nothing of the page.
async function opened(page) {
  await type(page, `clear; perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(LocalPort=>8080,Listen=>5,ReuseAddr=>1);while($c=$s->accept){1 while <$c>=~/\\S/;print $c "HTTP/1.0 200 OK\\r\\n\\r\\nserved from inside";close $c}' &`);
  await page.getByRole("link", { name: "Processes", exact: true }).click();
  const button = page.getByRole("link", { name: /^Open port 8080/ });
  for (let i = 0; i < 20 && !(await button.count()); i++) { // until it listens
    const answer = page.waitForResponse(/\/programs$/);
    await page.getByRole("button", { name: "Look again" }).click();
    await answer;
  }
  const [other] = await Promise.all([page.context().waitForEvent("page"), button.click()]);
  await other.getByText("served from inside").waitFor();
  const knows = await other.evaluate(() => [window.opener, document.referrer, document.cookie]);
  if (knows.join("") !== "" || new URL(other.url()).origin === new URL(page.url()).origin) throw new Error(`${other.url()} knows ${knows}`);
  await other.close();
  await page.getByRole("link", { name: "Terminal", exact: true }).click();
  await type(page, "kill %%; clear");
}

export async function inspect({ page, look }) {
  await page.getByRole("link", { name: "Processes", exact: true }).click();
  await page.getByRole("cell", { name: /bash/ }).first().waitFor();
  await look("processes");
  // A process is ended from here; the shell says so.
  await page.getByRole("link", { name: "Terminal", exact: true }).click();
  await type(page, "clear; sleep 4321 & wait $!; echo ended-$?");
  await page.getByRole("link", { name: "Processes", exact: true }).click();
  await page.getByRole("row", { name: /sleep 4321/ }).getByRole("button", { name: /^End…/ }).click();
  await page.getByRole("button", { name: "Kill it" }).click();
  await page.getByText(/Process \d+ is killed/).waitFor();
  await page.getByRole("row", { name: /sleep 4321/ }).waitFor({ state: "detached" });
  await page.getByRole("link", { name: "Terminal", exact: true }).click();
  await says(page, "ended-137");
  await opened(page);
  await page.getByRole("link", { name: "Schedule", exact: true }).click();
  await page.getByLabel("Take one every").selectOption("3600");
  await page.getByLabel("Keep the last").fill("3");
  await page.getByRole("button", { name: "Put in force" }).click();
  await page.getByText("The schedule is in force").waitFor();
  await page.reload();
  await page.waitForFunction(() => document.querySelector(".plan select")?.value === "3600");
  await look("schedule");
  await page.getByRole("link", { name: "Jail", exact: true }).click();
  await page.getByText("Every wall is as it must be").waitFor();
  await look("jail");
  await page.getByRole("link", { name: "Console log", exact: true }).click();
  await page.getByLabel("Console", { exact: true }).filter({ hasText: /\w/ }).waitFor();
  await look("console");
  await page.getByRole("link", { name: "Terminal", exact: true }).click();
}

// What a guest really writes is text where it is shown; hostile.mjs has more
// fields than a guest.
export async function hostile({ page, base, look }) {
  const title = await page.title();
  await type(page, `clear; mkdir -p /srv/names; cd /srv/names; touch $'<img src=x onerror=alert(1)>' $'\\xe2\\x80\\xaegnp.exe'; cd /srv`);
  await type(page, `bash -c 'exec -a "<script>alert(1)</script>" sleep 600' & echo '<b>kernel</b>' > /dev/kmsg; getent hosts '<b>bold</b>.example'`);
  await type(page, `printf '\\e]0;owned\\a\\e]8;;javascript:alert(1)\\e\\\\a-link\\e]8;;\\e\\\\\\n'; echo all-$((1+1))`);
  await says(page, "all-2");
  await page.locator(".xterm-rows").getByText("a-link").first().click({ modifiers: ["Control"], force: true });
  if ((await page.title()) !== title || page.context().pages().length > 1) throw new Error("the terminal has changed the page: " + (await page.title()));
  const here = page.url().split("#")[1].split("/")[2];
  await page.goto(`${base}/#/sandbox/${here}/files?path=%2Fsrv%2Fnames`);
  await page.getByText("<img src=x onerror=alert(1)>").first().waitFor();
  await page.getByText("\\u{202e}gnp.exe").first().waitFor();
  await page.goto(`${base}/#/sandbox/${here}/programs`);
  await page.getByRole("cell", { name: "<script>alert(1)</script> 600" }).waitFor();
  await look("hostile");
  await page.goto(`${base}/#/sandbox/${here}/terminal`);
  await type(page, "rm -r /srv/names; kill %1; clear");
}

export async function breakIt({ page, look }) {
  await type(page, "clear; rm -rf --no-preserve-root /srv /etc /usr 2>/dev/null; ls");
  await page.getByRole("alert").filter({ hasText: "This machine cannot work" }).waitFor({ timeout: 180_000 });
  await look("unhealthy");
}

export async function rollBack({ page, look }) {
  await page.getByRole("button", { name: /taken by hand/ }).click();
  await page.getByRole("button", { name: "Roll back to this…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.locator('[role="status"][aria-busy="false"]').filter({ hasText: "since then" }).waitFor({ timeout: 120_000 });
  await dialog.getByText("/srv/", { exact: true }).waitFor();
  await look("rollback");
  await dialog.getByRole("button", { name: "Roll back", exact: true }).click();
  await dialog.waitFor({ state: "detached" });
  await page.getByRole("alert").filter({ hasText: "This machine cannot work" }).waitFor({ state: "detached" });
  // The shell is the one of that moment: it knows what it knew.
  await type(page, "clear; echo back-$kept; cat /srv/precious");
  await says(page, "back-yes");
  await says(page, "and edited");
  await page.getByRole("button", { name: /what a rollback left/ }).waitFor();
  const moment = page.getByRole("button", { name: /taken by hand/ });
  if ((await moment.getAttribute("aria-expanded")) !== "true") await moment.click();
  await look("timeline");
  // A file that changed since says how.
  await type(page, "clear; echo afterthought >> /srv/precious; sync; echo synced-$((1+1))");
  await says(page, "synced-2");
  await page.getByRole("button", { name: "Roll back to this…" }).click();
  await dialog.getByRole("button", { name: "/srv/precious", exact: true }).click({ timeout: 120_000 });
  await dialog.getByRole("region", { name: "What would change in the file" }).getByText("- afterthought").waitFor();
  await look("compare");
  await dialog.getByRole("button", { name: "Cancel" }).click();
}

export async function egress({ page, look }) {
  await type(page, "clear; (curl -sS -m 60 http://allowed.example/ | tail -1; curl -sS -m 5 https://never.example/) &");
  await page.getByRole("link", { name: /^Egress \d+ ✓/ }).click();
  await page.getByText("never.example").first().waitFor();
  const editor = page.getByLabel("Policy document");
  await editor.fill("version: 1\ndefault: maybe\n");
  await page.locator("#policy-check .notice.bad").waitFor();
  if (!(await page.getByRole("button", { name: "Put in force" }).isDisabled())) throw new Error("a policy with a mistake can be put in force");
  const verdict = async (to, want) => {
    await page.getByRole("textbox", { name: "Destination" }).fill(to);
    await page.getByRole("button", { name: "Ask", exact: true }).click();
    await page.locator(".answer .mark").getByText(want, { exact: true }).waitFor();
  };
  await editor.fill("version: 1\nuse: [packages]\ndefault: ask\n");
  await page.locator("#policy-check").getByText("well formed").waitFor();
  await verdict("partner.example:80", "you are asked"); // by what is written, which is not in force
  await page.getByRole("button", { name: "Put in force" }).click();
  await page.getByText("The policy is in force").waitFor();
  await verdict("pypi.org", "allowed");

  await page.getByRole("link", { name: "Sandbox", exact: true }).click();
  await type(page, "clear; curl -sS -m 60 http://partner.example/ | tail -1");
  await page.getByRole("link", { name: /^Egress \d+ ✓/ }).click();
  await page.getByRole("region", { name: "Waiting for your answer" }).getByText("partner.example:80").waitFor();
  await look("approval");
  await page.getByRole("button", { name: "Approve once" }).click();
  const log = page.getByRole("region", { name: "Connections", exact: true });
  await log.getByRole("row", { name: /allowed.*partner\.example:80 ended/ }).waitFor();
  await page.getByRole("region", { name: "Bytes per destination" }).getByText("partner.example:80").waitFor();
  await look("egress");
  await page.getByRole("link", { name: "Sandbox", exact: true }).click();
  await says(page, "reached the outside");
}

export async function events({ page, look }) {
  await page.getByRole("link", { name: "Events", exact: true }).first().click();
  for (const type of ["sandbox.rolled_back", "sandbox.unhealthy", "egress.answered", "egress.connection"]) {
    await page.getByText(type, { exact: true }).first().waitFor();
  }
  await page.getByRole("button", { name: "Verify the log" }).click();
  await page.getByText("is as it was written").waitFor();
  await look("events");
  await page.getByRole("row", { name: /sandbox\.unhealthy/ }).first().getByRole("link", { name: "Restore to before…" }).click();
  await page.getByText("The last moment before").waitFor();
  await page.getByRole("button", { name: "Roll back to this…" }).waitFor();
}

export async function host({ page, look }) {
  await page.getByRole("link", { name: "Host", exact: true }).click();
  await page.getByRole("region", { name: "Doctor's findings" }).getByRole("listitem").first().waitFor();
  const secrets = page.getByRole("region", { name: "Secrets" });
  await secrets.getByLabel("Name of a secret").fill("openai");
  await secrets.getByLabel("Value").fill("sk-of-a-test-123456");
  await secrets.getByRole("button", { name: "Set" }).click();
  await secrets.getByRole("cell", { name: "openai", exact: true }).waitFor();
  if ((await page.content()).includes("sk-of-a-test")) throw new Error("the secret is in the page");
  const keys = page.getByRole("region", { name: "API keys" });
  await keys.getByLabel("Name of a key").fill("ci");
  await keys.getByRole("button", { name: "Create" }).click();
  await keys.getByText(/e2b_[0-9a-f]{40}/).waitFor();
  await keys.getByRole("button", { name: "I have it" }).click();
  await look("host");
}

export async function fleet({ page, look }) {
  await page.getByRole("link", { name: "Fleet", exact: true }).first().click();
  const rows = page.locator("table.fleet tbody tr");
  await page.getByLabel("Search").fill("otter");
  if ((await rows.count()) !== 1) throw new Error("the search finds " + (await rows.count()));
  await page.getByLabel("Search").fill("");
  await page.getByLabel("Select all that are shown").check();
  await page.getByRole("button", { name: "Pause 2" }).click();
  await page.getByText("Paused 2 sandboxes").waitFor();
  await page.locator(".state", { hasText: "paused" }).nth(1).waitFor();
  await page.getByLabel("Select otter").check();
  await page.getByRole("button", { name: "Resume 1" }).click();
  await page.locator(".state", { hasText: "running" }).first().waitFor();
  await look("fleet");
  await page.getByRole("link", { name: "otter", exact: true }).click();
  await page.getByRole("button", { name: "Fork", exact: true }).click();
  await page.getByText("goes on from this moment").waitFor();
  // What a person makes has no end, unlike what an SDK makes.
  const ends = await page.evaluate(async () => (await (await fetch("/v2/sandboxes?state=any")).json()).map((s) => s.endAt));
  if (ends.length !== 3 || ends.some((e) => Date.parse(e) < Date.now() + 1e12)) throw new Error("they end at " + ends);
}
