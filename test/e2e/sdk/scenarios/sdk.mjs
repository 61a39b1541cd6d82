// Which generation of the SDK the scenarios drive is the environment's choice;
// both have the same functions and ask for other paths.
export const sdk = await import(process.env.SDK ?? 'e2b')
export const { Template, BuildError, waitForPort, waitForFile, Sandbox, SandboxNotFoundError, NotFoundError, CommandExitError, TimeoutError, FileNotFoundError, FileType } = sdk

// A translator starts a login shell in some seconds, not in milliseconds.
export const patient = { timeoutMs: 120_000, requestTimeoutMs: 120_000 }

export async function create(opts = {}) {
  return Sandbox.create('base', { timeoutMs: 600_000, ...patient, ...opts, timeoutMs: opts.timeoutMs ?? 600_000 })
}

// until calls f until it returns something, and fails when the test does.
export async function until(f, every = 200) {
  for (;;) {
    const v = await f()
    if (v) return v
    await new Promise((r) => setTimeout(r, every))
  }
}
