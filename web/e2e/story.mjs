// What an operator does, on a real machine.

import { check, fits, launch, open, phone, wide } from "./browser.mjs";
import { breakIt, create, egress, events, fleet, host, inspect, rollBack, signIn, work } from "./chapters.mjs";
import { readOnly } from "./reader.mjs";

const { BASE: base, ADMIN: admin, READER: reader, SHOTS: shots, FAILURES: failures } = process.env;

const browser = await launch();
const { page, context, wrong } = await open(browser, { viewport: wide, colorScheme: "light", origin: base });
page.setDefaultTimeout(90_000);

// look checks what one sees, and keeps a picture of it if pictures are wanted.
async function look(name) {
  await check(page, wrong, name);
  await fits(page, name);
  if (shots) await page.screenshot({ path: `${shots}/${name}.png` });
}

async function chapter(name, tell) {
  console.log(name);
  await tell({ page, context, base, look, wrong });
}

try {
  await chapter("sign in", (s) => signIn(s, admin));
  await chapter("create a sandbox", create);
  await chapter("work in it", work);
  await chapter("look into it", inspect);
  await chapter("break it", breakIt);
  await chapter("roll it back", rollBack);
  await chapter("answer for a connection", egress);
  await chapter("read what happened", events);
  await chapter("look at the host", host);
  await chapter("look at the fleet", fleet);
  await chapter("on a phone, in the dark", async ({ page, base }) => {
    await page.emulateMedia({ colorScheme: "dark" });
    await page.setViewportSize(phone);
    await page.goto(base + "/#/");
    await page.getByRole("link", { name: "otter", exact: true }).waitFor();
    await look("phone");
    await page.setViewportSize(wide);
    await page.emulateMedia({ colorScheme: "light" });
  });
  await chapter("only look", (s) => readOnly(s, browser, reader));
} catch (e) {
  await page.screenshot({ path: `${failures}/failure.png` });
  if (process.env.KEEP) await page.screenshot({ path: process.env.KEEP });
  console.log(e.stack);
  console.log("the page says:\n" + (await page.locator("body").innerText()).slice(0, 3000));
  console.log("went wrong:\n" + wrong.join("\n"));
  process.exitCode = 1;
} finally {
  await browser.close();
}
