// The lines between the moments of a timeline.

import type { Layout } from "./layout";

export const rowHeight = 52;
const laneWidth = 18;
const left = 14;

const x = (lane: number) => left + lane * laneWidth;
const y = (row: number) => row * rowHeight + rowHeight / 2;

export const graphWidth = (l: Layout) => left * 2 + (l.lanes - 1) * laneWidth;

export function Graph({ layout, selected }: { layout: Layout; selected: string }) {
  const rows = layout.nodes.size;
  return (
    <svg class="graph" width={graphWidth(layout)} height={rows * rowHeight} aria-hidden="true">
      {layout.edges.map((e) => (
        <path key={e.from.id} class={e.current ? "current" : ""} d={
          e.from.lane === e.to.lane
            ? `M${x(e.from.lane)} ${y(e.from.row)}V${y(e.to.row)}`
            : `M${x(e.from.lane)} ${y(e.from.row)}V${y(e.to.row) - rowHeight / 2}Q${x(e.from.lane)} ${y(e.to.row)} ${x(e.to.lane)} ${y(e.to.row)}`
        } />
      ))}
      {[...layout.nodes.values()].map((n) => (
        <circle key={n.id} class={`${n.id === "now" ? "now" : ""} ${n.id === selected ? "selected" : ""}`} cx={x(n.lane)} cy={y(n.row)} r={n.id === "now" ? 6 : 5} />
      ))}
    </svg>
  );
}
