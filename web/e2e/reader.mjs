// What somebody may do who may only look.

import { check, open, wide } from "./browser.mjs";

export async function readOnly({ base }, browser, key) {
  const { page, context, wrong } = await open(browser, { viewport: wide, origin: base });
  await page.goto(base);
  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("link", { name: "otter", exact: true }).click();
  await page.getByRole("button", { name: /taken by hand/ }).click();
  const here = page.url().slice(base.length + 1);
  for (const view of ["#/", "#/egress", "#/host", here, here + "/schedule", here + "/programs", here + "/jail"]) {
    await page.goto(base + "/" + view);
    await page.getByRole("heading", { level: 1 }).waitFor();
    const actions = await page.getByRole("button", { name: /snapshot$|Roll back|Fork|Remove|Pause|Resume|Restart|New sandbox|Put in force|End…|Add rule|Rename|Upload|Approve|Create|Set/ }).allInnerTexts();
    if (actions.length > 0) throw new Error(`${view} offers ${actions.join(", ")}`);
  }
  await check(page, wrong, "read-only");

  // What the buttons would do is refused, whoever asks.
  const ask = (method, path, headers) => page.evaluate(
    async ([method, path, headers]) => (await fetch(path, { method, headers, ...(method === "GET" ? {} : { body: "{}" }) })).status, [method, path, headers]);
  const { csrf } = await page.evaluate(async () => (await fetch("/session")).json());
  const expect = async (want, method, path, headers) => {
    const got = await ask(method, path, headers);
    if (want === "refused" ? got < 400 : got !== want) throw new Error(`${method} ${path} ${JSON.stringify(headers)}: status ${got}, not ${want}`);
  };
  const token = { "X-Bulkhead-Csrf": csrf };
  await expect(200, "GET", "/sandboxes/otter/timeline", {});
  await expect(403, "POST", "/sandboxes/otter/pause", token);
  await expect(403, "DELETE", "/sandboxes/otter", token);
  await expect(403, "POST", "/sandboxes/otter/programs/1/signal", token);
  await expect(403, "PUT", "/sandboxes/otter/schedule", token);
  await expect(403, "POST", "/sandboxes/otter/egress/rules", token);
  await expect(403, "GET", "/sandboxes/otter/file?path=/etc/hostname", {});
  await expect(401, "POST", "/sandboxes/otter/egress/test", {}); // without the token
  await expect("refused", "GET", "/health", { "E2b-Sandbox-Id": "otter", "E2b-Sandbox-Port": "49983" }); // a guest's answer is not for browsers
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("API key").waitFor();
  await expect(401, "GET", "/sandboxes/otter/timeline", {});
  await context.close();
}
