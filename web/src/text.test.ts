import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, log, percent, shown, size, span } from "./text";

test("what is hidden is written out", () => {
  assert.equal(shown("plain, größer, 日本語, 🙂"), "plain, größer, 日本語, 🙂");
  assert.equal(shown("a\u202egnp.exe"), "a\\u{202e}gnp.exe");
  assert.equal(shown("a\u200bb\u2066c\u00add\ufeff"), "a\\u{200b}b\\u{2066}c\\u{ad}d\\u{feff}");
  assert.equal(shown("\x1b[31mred"), "\\u{1b}[31mred");
  assert.equal(shown("one\ntwo\tthree"), "one⏎two⇥three");
  assert.equal(shown("\u{e0041}tag"), "\\u{e0041}tag");
  assert.equal(shown("x".repeat(600)), "x".repeat(500) + "…");
});

test("a console's escape sequences are left out", () => {
  assert.equal(log("\x1b[1;31mred\x1b[0m plain"), "red plain");
  assert.equal(log("\x1b]0;root@host\x07text"), "text");
  assert.equal(log("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\"), "link");
  assert.equal(log("\x1bPq#0\x1b\\after"), "after");
  assert.equal(log("\x1bc\x1b(Bplain"), "plain");
  assert.equal(log("10%\r50%\r100%\nnext\r\n"), "100%\nnext\n");
  assert.equal(log("\u202eevil"), "\\u{202e}evil");
  assert.equal(log("<img src=x onerror=alert(1)>"), "<img src=x onerror=alert(1)>");
});

test("an escape sequence without an end hides no other line", () => {
  for (const begin of ["\x1b]0;", "\x1bP", "\x1b_", "\x1b[", "\x1b"]) {
    assert.ok(log(begin + "never ends\nsecond line").endsWith("\nsecond line"), JSON.stringify(begin));
  }
});

test("sizes and times", () => {
  assert.deepEqual([size(0), size(1023), size(1536), size(200 * 1024), size(3 * 2 ** 30)], ["0 B", "1023 B", "1.5 KiB", "200 KiB", "3.0 GiB"]);
  assert.deepEqual([percent(0), percent(0.4), percent(24.3), percent(199.6)], ["0 %", "0.4 %", "24 %", "200 %"]);
  assert.deepEqual([span(-3), span(59), span(60), span(3700), span(36000), span(200000)], ["0 s", "59 s", "1 min", "1 h 1 min", "10 h", "2 d"]);
  assert.equal(ago("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:02:00Z")), "2 min ago");
  assert.equal(ago("0001-01-01T00:00:00Z", 0), "never");
});
