// Hostile text in every field that a guest or a client can fill: it is text and
// nothing else. It runs nothing, loads nothing, breaks no layout, hides nothing
// and leads nowhere.

import { check, fits, launch, open, phone, wide } from "./browser.mjs";
import { stage, world } from "./stage.mjs";

const payloads = {
  // One string that breaks out of an element, an attribute, a text area, a script.
  "markup": `<img src=x onerror="window.owned=1"></textarea></title></script>'"><script>window.owned=1</script><svg onload="window.owned=1">` +
    `<style>*{display:none}</style><base href="https://evil.example/"><meta http-equiv=refresh content="0;url=https://evil.example">` +
    `<a href="javascript:window.owned=1" style="position:fixed;inset:0">x</a>{{constructor.constructor('window.owned=1')()}} \${window.owned=1}`,
  "a link": "javascript:window.owned=1",
  "what does not show": "\u202egnp.exe\u2066\u200f\u061c \u200b\u200d\u2060\u00ad\ufeff\u3164 \x1b[2J\x1b]0;owned\x07\x1b]8;;javascript:window.owned=1\x1b\\click\x1b]8;;\x1b\\\x9b31m",
  "marks on marks": "Z" + "\u0301\u0316\u0489\u20dd".repeat(200),
  "no place to break": "W".repeat(5000),
  "many lines": "line\n".repeat(2000),
  "prototypes": "__proto__",
};

const id = (c) => "i" + c.repeat(20);
const views = ["#/", "#/egress", "#/egress/" + id("a"), "#/events", "#/events?sandbox=" + id("a"), "#/host",
  ...["timeline", "terminal", "files", "programs", "console", "jail", "schedule"].map((t) => `#/sandbox/${id("a")}/${t}`), `#/sandbox/${id("b")}/jail`, `#/sandbox/${id("d")}`];

const browser = await launch();
let failed = 0;

// plain fails if the payload has become anything but text.
async function plain(page, where) {
  const found = await page.evaluate(() => ({
    owned: window.owned,
    elements: [...document.querySelectorAll("img:not([src='/console/icon.svg']), iframe, base, object, embed, body script, body style, [onload], [onerror], a[href^='javascript' i]")].map((e) => e.outerHTML.slice(0, 100)),
    // What is hidden or changes directions is nowhere as it came, but in the
    // terminal, which is the guest's: there it cannot move anything.
    hidden: [...document.body.querySelectorAll("*")].filter((e) => !e.closest(".terminal-host"))
      .flatMap((e) => [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data))
      .find((t) => /[\u200b-\u200f\u202a-\u202e\u2060-\u2069\u061c\u00ad\ufeff\u3164\u001b\u009b]/.test(t)),
    title: document.title,
  }));
  if (found.owned || found.elements.length > 0 || found.hidden || /owned/.test(found.title)) throw new Error(`${where}: ${JSON.stringify(found)}`);
}

// held fails if the page's own controls are not where they belong, and on top.
async function held(page, where) {
  const lost = await page.evaluate(() => {
    const at = (e) => {
      const r = e.getBoundingClientRect();
      const top = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
      return r.width > 0 && r.y >= 0 && r.bottom < 400 && e.contains(top);
    };
    window.scrollTo(0, 0);
    return [...document.querySelectorAll(".top nav a")].filter((e) => !at(e)).map((e) => e.textContent);
  });
  if (lost.length > 0) throw new Error(`${where}: the navigation is covered or gone: ${lost.join(", ")}`);
}

for (const [name, payload] of Object.entries(payloads)) {
  const s = await stage(world(() => payload));
  const { page, context, wrong } = await open(browser, { viewport: wide, origin: s.url });
  try {
    for (const view of views) {
      const where = `${name} at ${view}`;
      await page.goto(s.url + "/" + view);
      await page.locator("h1").waitFor();
      await page.waitForLoadState("domcontentloaded");
      await page.locator("[aria-busy=true]").first().waitFor({ state: "detached" });
      for (const size of [wide, phone]) {
        await page.setViewportSize(size);
        await fits(page, where);
        await held(page, where);
      }
      await page.setViewportSize(wide);
      await plain(page, where);
    }
    // The dialog and the editor show what a guest says, too.
    await page.goto(`${s.url}/#/sandbox/${id("a")}/files`);
    const roll = page.getByRole("button", { name: "Roll back to this…" });
    await page.locator("button.moment-line").first().click();
    await roll.click();
    await page.getByRole("dialog").getByText("since then").waitFor();
    await page.getByRole("dialog").locator("button.link").first().click();
    await page.getByRole("region", { name: "What would change in the file" }).getByText("as it was").first().waitFor();
    await plain(page, name + " in the dialog");
    await fits(page, name + " in the dialog");
    await page.getByRole("button", { name: "Cancel" }).click();
    for (const [tab, button] of [[`sandbox/${id("a")}/files`, /^Rename…/], [`sandbox/${id("a")}/programs`, /^End…/], ["egress/" + id("a"), /^Add rule…/]]) {
      await page.goto(`${s.url}/#/${tab}`);
      await page.getByRole("button", { name: button }).first().click();
      await page.getByRole("dialog").waitFor();
      await plain(page, `${name} in the dialog of ${button}`);
      await fits(page, `${name} in the dialog of ${button}`);
      const fields = await page.getByRole("dialog").getByRole("textbox").evaluateAll((all) => all.map((e) => e.value));
      if (fields.some((v) => /[\u202a-\u202e\u2066-\u2069]/.test(v))) throw new Error(`${name}: a field of ${button} is not what it seems`);
      await page.getByRole("button", { name: "Cancel" }).click();
    }
    // What a guest says instead of an answer is text, too.
    for (const tab of ["files", "programs"]) {
      s.world.refuse = (path) => (/\/(folder|programs)$/.test(path) ? { status: 404, message: "in the sandbox: " + payload, hint: payload } : undefined);
      await page.goto(`${s.url}/#/sandbox/${id("a")}/${tab}`);
      await page.reload();
      await page.getByRole("alert").filter({ hasText: "in the sandbox:" }).waitFor();
      await plain(page, `${name} in an error of ${tab}`);
      await fits(page, `${name} in an error of ${tab}`);
    }
    s.world.refuse = undefined;
    for (let i = wrong.length - 1; i >= 0; i--) if (/status of 404/.test(wrong[i])) wrong.splice(i, 1); // the browser logs that by itself
    await check(page, wrong, name);
  } catch (e) {
    failed++;
    console.log("FAILED " + e.message);
    await page.screenshot({ path: `${process.env.FAILURES ?? "/tmp"}/hostile-${failed}.png` });
  } finally {
    await context.close();
    await s.close();
  }
}
await browser.close();
if (failed > 0) process.exitCode = 1;
else console.log(`${Object.keys(payloads).length} payloads in ${views.length} views`);
