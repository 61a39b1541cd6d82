import { useEffect, useState } from "preact/hooks";

const query = "(min-width: 1100px)";

// useWide reports whether there is room for two columns.
export function useWide(): boolean {
  const [wide, set] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const m = matchMedia(query);
    const changed = () => set(m.matches);
    m.addEventListener("change", changed);
    return () => m.removeEventListener("change", changed);
  }, []);
  return wide;
}
