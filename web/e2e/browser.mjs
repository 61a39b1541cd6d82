// Debian's Chromium, watched: a page that logs an error, is refused something by
// its own policy, or asks another host for anything has failed.

import axe from "axe-core";
import { chromium } from "playwright-core";

const flags = [
  "--no-sandbox", // the tests run as root
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

export const wide = { width: 1440, height: 900 };
export const phone = { width: 390, height: 844 };

// launch starts a browser; the caller closes it.
export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: flags });

// open returns a page of a fresh profile, and what has gone wrong in it so far.
export async function open(browser, { viewport = wide, colorScheme = "light", origin }) {
  const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: 1, reducedMotion: "reduce" });
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (e) => wrong.push("exception: " + e.message));
  page.on("console", (m) => m.type() === "error" && wrong.push(`console: ${m.text()} ${m.location().url}`));
  page.on("dialog", (d) => {
    wrong.push("dialog: " + d.message());
    void d.dismiss();
  });
  page.on("request", (r) => {
    const url = new URL(r.url());
    if (url.protocol !== "data:" && url.protocol !== "blob:" && url.origin !== origin) wrong.push("asked another host: " + r.url());
  });
  await page.addInitScript(() => {
    window.refused = [];
    document.addEventListener("securitypolicyviolation", (e) => window.refused.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
  });
  return { page, context, wrong };
}

// check fails if something has gone wrong, or axe-core finds something serious.
export async function check(page, wrong, where) {
  const refused = await page.evaluate(() => window.refused);
  const problems = [...wrong, ...refused.map((r) => "refused by the policy: " + r), ...(await violations(page))];
  if (problems.length > 0) throw new Error(`${where}:\n  ${problems.join("\n  ")}`);
}

async function violations(page) {
  // The page's policy lets no script in; this one comes by the debugger.
  const client = await page.context().newCDPSession(page);
  await client.send("Runtime.evaluate", { expression: axe.source });
  const { result, exceptionDetails } = await client.send("Runtime.evaluate", {
    expression: `axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }).then((r) => JSON.stringify(r.violations.map((v) => ({ id: v.id, impact: v.impact, nodes: v.nodes.map((n) => n.html.slice(0, 160) + " " + (n.any[0]?.message ?? "")) }))))`,
    awaitPromise: true, returnByValue: true,
  });
  await client.detach();
  if (exceptionDetails) throw new Error("axe: " + JSON.stringify(exceptionDetails).slice(0, 500));
  return JSON.parse(result.value)
    .filter((v) => v.impact === "serious" || v.impact === "critical")
    .map((v) => `axe: ${v.id} (${v.impact}): ${v.nodes.slice(0, 3).join(" | ")}`);
}

// fits fails if something is wider than the window.
export async function fits(page, where) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (over > 0) throw new Error(`${where}: the page is ${over} px wider than the window`);
}
