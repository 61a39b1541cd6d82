// Light, dark, or as the system has it.

import { useEffect, useState } from "preact/hooks";

const key = "bulkhead-theme";
const all = ["system", "light", "dark"] as const;
type Theme = (typeof all)[number];

function stored(): Theme {
  const t = localStorage.getItem(key);
  return all.find((x) => x === t) ?? "system";
}

// applyTheme is for before anything is drawn.
export function applyTheme(theme: Theme = stored()): void {
  document.documentElement.dataset["theme"] = theme;
}

export function ThemeSwitch() {
  const [theme, set] = useState<Theme>(stored);
  useEffect(() => {
    localStorage.setItem(key, theme);
    applyTheme(theme);
    window.dispatchEvent(new Event("themechange"));
  }, [theme]);
  return (
    <label class="theme">
      <span class="visually-hidden">Theme</span>
      <select value={theme} onChange={(e) => set(e.currentTarget.value as Theme)}>
        <option value="system">System</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
      </select>
    </label>
  );
}
