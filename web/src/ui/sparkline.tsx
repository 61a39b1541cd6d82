// The last hour of a machine in the space of a word.

import type { Load } from "../types";

const width = 88;
const height = 22;

export function Sparkline({ hour, label }: { hour: Load[]; label: string }) {
  // A quiet machine has a flat line: below a tenth of a CPU nothing is drawn tall.
  const top = Math.max(10, ...hour.map((l) => l.cpuPercent));
  const step = width / Math.max(1, hour.length - 1);
  const points = hour.map((l, i) => `${(i * step).toFixed(1)},${(height - 1 - (l.cpuPercent / top) * (height - 3)).toFixed(1)}`);
  return (
    <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label}>
      <polygon points={`0,${height} ${points.join(" ")} ${width},${height}`} />
      <polyline points={points.join(" ")} />
    </svg>
  );
}
