import assert from "node:assert/strict";
import { test } from "node:test";
import { parse, to } from "./route";

test("what to writes, parse reads", () => {
  const r = parse(to("sandbox", ["i1", "files"], { path: "/a b/%2f/ä?#", none: "" }));
  assert.deepEqual([r.view, r.parts, r.query.get("path"), r.query.has("none")], ["sandbox", ["i1", "files"], "/a b/%2f/ä?#", false]);
});

test("any address leads somewhere", () => {
  for (const hash of ["", "#", "#/", "#/%", "#x?%&=", "#////"]) assert.equal(typeof parse(hash).view, "string");
  assert.equal(parse("").view, "fleet");
});
