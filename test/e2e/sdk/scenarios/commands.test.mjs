import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { CommandExitError, TimeoutError, create, patient } from './sdk.mjs'

let box
before(async () => { box = await create({ envs: { FROM_CREATE: 'yes' } }) })
after(() => box?.kill())

test('foreground', async () => {
  const said = []
  const r = await box.commands.run('echo out; echo err >&2; pwd; whoami; echo $FROM_CREATE$HERE', {
    ...patient, envs: { HERE: '!' }, cwd: '/tmp', onStdout: (s) => said.push(s),
  })
  assert.equal(r.exitCode, 0)
  assert.equal(r.stdout, 'out\n/tmp\nuser\nyes!\n')
  assert.equal(r.stderr, 'err\n')
  assert.equal(said.join(''), r.stdout)
})

test('home, variables of the sandbox, another user, exit code', async () => {
  const r = await box.commands.run('pwd; echo $E2B_SANDBOX $E2B_SANDBOX_ID; cat /run/e2b/.E2B_SANDBOX_ID', patient)
  assert.equal(r.stdout, `/home/user\ntrue ${box.sandboxId}\n${box.sandboxId}`)
  assert.equal((await box.commands.run('whoami', { ...patient, user: 'root' })).stdout, 'root\n')
  await assert.rejects(box.commands.run('exit 7', patient), (e) => e instanceof CommandExitError && e.exitCode === 7)
})

test('background, list, connect, stdin, kill', async () => {
  const cat = await box.commands.run('cat', { ...patient, background: true, stdin: true })
  assert.ok((await box.commands.list()).some((p) => p.pid === cat.pid))
  let heard = ''
  const other = await box.commands.connect(cat.pid, { ...patient, onStdout: (s) => { heard += s } })
  await box.commands.sendStdin(cat.pid, 'hello\n')
  await box.commands.closeStdin(cat.pid)
  assert.equal((await cat.wait()).stdout, 'hello\n')
  await other.wait()
  assert.equal(heard, 'hello\n')

  const sleep = await box.commands.run('sleep 1000', { ...patient, background: true })
  assert.equal(await box.commands.kill(sleep.pid), true)
  await assert.rejects(sleep.wait(), CommandExitError)
  assert.equal(await box.commands.kill(999_999), false)
})

test('timeout', async () => {
  await assert.rejects(box.commands.run('sleep 1000', { timeoutMs: 3000 }), TimeoutError)
})

test('terminal', async () => {
  let heard = ''
  const pty = await box.pty.create({ ...patient, cols: 80, rows: 24, onData: (d) => { heard += new TextDecoder().decode(d) } })
  await box.pty.resize(pty.pid, { cols: 100, rows: 30 })
  await box.pty.sendInput(pty.pid, new TextEncoder().encode('tput cols; exit 3\n'))
  await assert.rejects(pty.wait(), (e) => e.exitCode === 3)
  assert.match(heard, /100/)
  const another = await box.pty.create({ ...patient, cols: 80, rows: 24, onData: () => {} })
  assert.equal(await box.pty.kill(another.pid), true)
})
