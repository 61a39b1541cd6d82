import assert from "node:assert/strict";
import { test } from "node:test";
import { compare, lines } from "./diff";

// told writes a comparison as a patch would.
const told = (before: string, after: string) =>
  compare(lines(before), lines(after))?.map((l) => (l === undefined ? "…" : { same: " ", gone: "-", new: "+" }[l.kind] + l.text)).join("|");

test("a line that changed is gone and new, with what is around it", () => {
  assert.equal(told("a\nb\nc\n", "a\nB\nc\n"), " a|-b|+B| c");
});

test("what comes, and what goes", () => {
  assert.equal(told("", "a\nb\n"), "+a|+b");
  assert.equal(told("a\nb\n", ""), "-a|-b");
  assert.equal(told("a\nc\n", "a\nb\nc\n"), " a|+b| c");
});

test("what is the same far from a change is left out", () => {
  const many = Array.from({ length: 20 }, (_, i) => "l" + i).join("\n");
  assert.equal(told(many + "\nx\n" + many, many + "\ny\n" + many), "…| l17| l18| l19|-x|+y| l0| l1| l2|…");
  assert.equal(told("a\nb", "a\nb"), "…");
});

test("a comparison is right whatever is compared", () => {
  let seed = 7;
  const next = (n: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
  for (let round = 0; round < 300; round++) {
    const some = () => Array.from({ length: next(9) }, () => "abc"[next(3)]!);
    const [before, after] = [some(), some()];
    const all = compare(before, after)!;
    if (all.includes(undefined)) continue; // a stretch that is not told
    assert.deepEqual(all.filter((l) => l!.kind !== "new").map((l) => l!.text), before);
    assert.deepEqual(all.filter((l) => l!.kind !== "gone").map((l) => l!.text), after);
  }
});

test("texts that are too different are not compared", () => {
  const all = (c: string) => Array.from({ length: 2001 }, (_, i) => c + i);
  assert.equal(compare(all("a"), all("b")), undefined);
});
