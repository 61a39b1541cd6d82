// Writes what the daemon embeds. With no argument it builds; the output has no
// dates and no paths, so the same sources give the same bytes.
import { build } from "esbuild";
import { copyFile, mkdir } from "node:fs/promises";

const out = "../internal/server/page/dist";

await mkdir(out, { recursive: true });
await build({
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome111", "firefox115", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "eof",
  loader: { ".svg": "dataurl" },
  logLevel: "warning",
});
for (const file of ["index.html", "icon.svg"]) {
  await copyFile("src/" + file, out + "/" + file);
}
