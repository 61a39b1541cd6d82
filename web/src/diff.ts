// What two texts have in common, line by line.

export interface Line {
  kind: "same" | "gone" | "new";
  text: string;
}

// most bounds the lines of what differs on either side: the table of a comparison
// has a cell for each pair of them.
const most = 2000;

// context is how many lines around a change are shown.
const context = 3;

// lines are those of a text; its last line break begins no other one.
export const lines = (text: string): string[] => (text === "" ? [] : text.replace(/\n$/, "").split("\n"));

// compare tells how before becomes after; undefined if they are too different to
// be told line by line. Long stretches that are the same are left out: undefined
// stands for one.
export function compare(before: string[], after: string[]): (Line | undefined)[] | undefined {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < before.length - head && tail < after.length - head && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail++;
  const a = before.slice(head, before.length - tail);
  const b = after.slice(head, after.length - tail);
  if (a.length > most || b.length > most) return undefined;
  const all: Line[] = before.slice(0, head).map(same);
  // common[i][j] is the length of what a from i and b from j have in common.
  const width = b.length + 1;
  const common = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i * width + j] = a[i] === b[j] ? common[(i + 1) * width + j + 1]! + 1 : Math.max(common[(i + 1) * width + j]!, common[i * width + j + 1]!);
    }
  }
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      all.push(same(a[i]!));
      i++;
      j++;
    } else if (i < a.length && (j === b.length || common[(i + 1) * width + j]! >= common[i * width + j + 1]!)) {
      all.push({ kind: "gone", text: a[i++]! });
    } else {
      all.push({ kind: "new", text: b[j++]! });
    }
  }
  return shorten([...all, ...before.slice(before.length - tail).map(same)]);
}

const same = (text: string): Line => ({ kind: "same", text });

function shorten(all: Line[]): (Line | undefined)[] {
  const near = new Set<number>();
  all.forEach((l, at) => {
    if (l.kind !== "same") for (let n = at - context; n <= at + context; n++) near.add(n);
  });
  const short: (Line | undefined)[] = [];
  all.forEach((l, at) => {
    if (near.has(at)) short.push(l);
    else if (short.at(-1) !== undefined || short.length === 0) short.push(undefined);
  });
  return short;
}
