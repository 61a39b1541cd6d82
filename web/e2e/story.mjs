// What an operator does, on a real machine. A chapter that fails does not keep
// the others from being told.

import { check, fits, launch, open, phone, wide } from "./browser.mjs";
import { breakIt, create, egress, events, fleet, host, hostile, inspect, rollBack, signIn, work } from "./chapters.mjs";
import { readOnly } from "./reader.mjs";

const { BASE: base, ADMIN: admin, READER: reader, SHOTS: shots, FAILURES: failures } = process.env;

const browser = await launch();
const { page, context, wrong } = await open(browser, { viewport: wide, colorScheme: "light", origin: base });
page.setDefaultTimeout(90_000);

// look checks what one sees, and keeps a picture of it if pictures are wanted.
async function look(name) {
  for (const b of await page.getByRole("button", { name: "Dismiss message" }).all()) await b.click({ timeout: 1000 }).catch(() => {}); // it has gone by itself
  if (shots) await page.screenshot({ path: `${shots}/${name}.png` });
  await check(page, wrong, name);
  await fits(page, name);
}

async function chapter(name, tell) {
  const began = Date.now();
  try {
    await tell({ page, context, base, look, wrong });
    console.log(`${name}: ${((Date.now() - began) / 1000).toFixed(1)} s`);
  } catch (e) {
    process.exitCode = 1;
    console.log(`FAILED ${name}: ${e.stack}\nthe page says:\n${(await page.locator("body").innerText()).slice(0, 1500)}`);
    if (wrong.length > 0) console.log("went wrong:\n" + wrong.join("\n"));
    await page.screenshot({ path: `${failures}/${name.replaceAll(" ", "-")}.png` });
    wrong.length = 0;
  }
}

try {
  await chapter("sign in", (s) => signIn(s, admin));
  await chapter("create a sandbox", create);
  await chapter("work in it", work);
  await chapter("look into it", inspect);
  await chapter("see that text is text", hostile);
  await chapter("break it", breakIt);
  await chapter("roll it back", rollBack);
  await chapter("answer for a connection", egress);
  await chapter("read what happened", events);
  await chapter("look at the host", host);
  await chapter("look at the fleet", fleet);
  await chapter("on a phone and in the dark", async () => {
    await page.emulateMedia({ colorScheme: "dark" });
    await page.setViewportSize(phone);
    await page.goto(base + "/#/");
    await page.getByRole("link", { name: "otter", exact: true }).waitFor();
    await look("phone");
    await page.getByRole("link", { name: "otter", exact: true }).click();
    await page.getByRole("link", { name: "Timeline", exact: true }).click();
    await page.getByRole("button", { name: /taken by hand/ }).first().click();
    await look("phone-timeline");
  });
  await chapter("only look", (s) => readOnly(s, browser, reader));
} finally {
  await browser.close();
}
