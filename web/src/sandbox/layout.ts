// Where the nodes of a timeline are drawn.
//
// Rows are moments, the newest on top. A branch keeps its lane from its newest
// moment down to the one that it left from; lanes further right are free again
// below that. Lane 0 is the line that the machine is on now.

import type { Timeline } from "../types";

export interface Placed {
  id: string;
  row: number;
  lane: number;
}

export interface Edge {
  // from is the later moment, to the one that it goes on from.
  from: Placed;
  to: Placed;
  // current is on the way from now to the beginning.
  current: boolean;
}

export interface Layout {
  nodes: Map<string, Placed>;
  edges: Edge[];
  lanes: number;
}

// now is the id of the machine as it is.
export const now = "now";

export function layout(t: Timeline): Layout {
  const parents = new Map<string, string | undefined>();
  parents.set(now, t.head);
  const order = [now];
  for (const s of [...t.snapshots].reverse()) {
    parents.set(s.snapshotID, s.parent);
    order.push(s.snapshotID);
  }
  const parentOf = (id: string) => {
    const p = parents.get(id);
    return p !== undefined && p !== id && parents.has(p) ? p : undefined;
  };
  const line = new Set<string>();
  for (let id: string | undefined = now; id !== undefined && !line.has(id); id = parentOf(id)) line.add(id);

  const rowOf = new Map(order.map((id, row) => [id, row]));
  const nodes = new Map<string, Placed>();
  // Each lane knows the row down to which it is taken.
  const taken: number[] = [];
  for (const [row, id] of order.entries()) {
    if (nodes.has(id)) continue;
    let lane = 0;
    if (!line.has(id)) {
      lane = 1;
      while ((taken[lane] ?? -1) >= row) lane++;
    }
    // Everything on the way down that nobody has placed is of this lane.
    let at: string | undefined = id;
    while (at !== undefined && !nodes.has(at) && (lane === 0) === line.has(at)) {
      const r: number = rowOf.get(at) ?? row;
      nodes.set(at, { id: at, row: r, lane });
      taken[lane] = Math.max(taken[lane] ?? -1, r);
      at = parentOf(at);
    }
    if (at !== undefined) taken[lane] = Math.max(taken[lane] ?? -1, (rowOf.get(at) ?? row) - 1);
  }
  const edges: Edge[] = [];
  for (const id of order) {
    const p = parentOf(id);
    const from = nodes.get(id);
    const to = p === undefined ? undefined : nodes.get(p);
    if (from && to) edges.push({ from, to, current: line.has(id) });
  }
  return { nodes, edges, lanes: Math.max(1, ...[...nodes.values()].map((n) => n.lane + 1)) };
}
