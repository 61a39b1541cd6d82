import assert from "node:assert/strict";
import { test } from "node:test";
import type { Timeline } from "../types";
import { layout, now } from "./layout";

// line makes a timeline from "child<parent" words, oldest first.
function line(head: string, ...words: string[]): Timeline {
  return {
    sandboxID: "i", head,
    snapshots: words.map((w, i) => {
      const [id = "", parent] = w.split("<");
      return { snapshotID: id, ...(parent ? { parent } : {}), createdAt: new Date(i * 1000).toISOString(), cause: "manual", sandboxID: "i", stoppedMS: 0, ownBytes: 0 };
    }),
  };
}

// drawn is the lane of each moment, the newest first.
function drawn(t: Timeline): string {
  return [...layout(t).nodes.values()].sort((a, b) => a.row - b.row).map((n) => `${n.id}:${n.lane}`).join(" ");
}

test("without a branch everything is on one line", () => {
  assert.equal(drawn(line("c", "a", "b<a", "c<b")), `${now}:0 c:0 b:0 a:0`);
});

test("what a rollback left is beside the line", () => {
  assert.equal(drawn(line("b", "a", "b<a", "x<b", "y<x")), `${now}:0 y:1 x:1 b:0 a:0`);
});

test("a lane is free again below its branch", () => {
  assert.equal(drawn(line("d", "a", "x<a", "b<a", "c<b", "y<c", "d<c")), `${now}:0 d:0 y:1 c:0 b:0 x:1 a:0`);
});

test("branches that overlap have lanes of their own", () => {
  assert.equal(drawn(line("a", "a", "x<a", "y<a", "x2<x", "y2<y")), `${now}:0 y2:1 x2:2 y:1 x:2 a:0`);
});

test("every moment is drawn once, whatever its parents are", () => {
  for (const t of [line("", "a", "b"), line("gone", "a<gone", "b<a"), line("a", "a<b", "b<a"), line("a", "a<a")]) {
    const l = layout(t);
    assert.equal(l.nodes.size, t.snapshots.length + 1);
    assert.equal(new Set([...l.nodes.values()].map((n) => n.row)).size, l.nodes.size);
  }
});

test("lines lead to the one that each goes on from", () => {
  const l = layout(line("b", "a", "b<a", "x<b"));
  assert.deepEqual(l.edges.map((e) => `${e.from.id}>${e.to.id}${e.current ? "!" : ""}`).sort(), [`b>a!`, `${now}>b!`, "x>b"].sort());
});
