import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { BuildError, Sandbox, Template, patient, waitForPort, waitForFile } from './sdk.mjs'

// Each generation has names of its own: the host is the same.
const own = (name) => `${name}-${process.env.SDK ?? 'e2b'}`

let context
before(() => {
  context = fs.mkdtempSync(path.join(os.tmpdir(), 'context-'))
  fs.mkdirSync(path.join(context, 'app', 'deep'), { recursive: true })
  fs.writeFileSync(path.join(context, 'app', 'serve.sh'), 'echo served\n', { mode: 0o755 })
  fs.writeFileSync(path.join(context, 'app', 'deep', 'data'), 'deep\n')
  fs.symlinkSync('deep/data', path.join(context, 'app', 'link'))
  fs.writeFileSync(path.join(context, 'one.txt'), 'one\n')
  fs.writeFileSync(path.join(context, 'two.txt'), 'two\n')
})
after(() => fs.rmSync(context, { recursive: true }))

async function build(template, name, opts = {}) {
  const lines = []
  const info = await Template.build(template, name, { ...patient, onBuildLogs: (e) => lines.push(e.message), ...opts })
  return { info, log: lines.join('\n') }
}

const kitchen = () =>
  Template({ fileContextPath: context })
    .fromBaseImage()
    .copy('app', '/opt/app', { user: 'root' })
    .copy('one.txt', 'first.txt', { mode: 0o600 })
    .copy('*.txt', '/srv/all/')
    .setEnvs({ GREETING: 'good "morning" $5', PATH: '/opt/app:$PATH' })
    .setWorkdir('/srv/job')
    .runCmd('echo "$GREETING" > greeting; pwd; whoami; printf "\\033[31mred\\033[0m line\\n"')
    .runCmd('id -un > /root/who', { user: 'root' })
    .setUser('cook')
    .runCmd('id -un > /tmp/cooked')

test('a template has what its steps made, and what it started runs', async () => {
  const name = own('kitchen')
  const first = await build(kitchen().setStartCmd('python3 -m http.server 8123 --directory /srv/all', waitForPort(8123)), name)
  assert.match(first.log, /\/srv\/job/)
  assert.match(first.log, /^red line$/m)
  assert.match(first.log, /\[6\/9\] RUN/)
  assert.doesNotMatch(first.log, /CACHED/)
  assert.equal(await Template.aliasExists(name), true)

  const box = await Sandbox.create(name, { timeoutMs: 300_000, ...patient, timeoutMs: 300_000, envs: { MORE: 'more' } })
  try {
    const out = async (cmd, opts) => (await box.commands.run(cmd, { ...patient, ...opts })).stdout
    assert.equal(await out('id -un; pwd; echo "$GREETING $MORE"; echo $PATH | cut -d: -f1'), 'cook\n/srv/job\ngood "morning" $5 more\n/opt/app\n')
    assert.equal(await out('cat greeting; cat /opt/app/link; stat -c "%U %a" /opt/app/serve.sh; readlink /opt/app/link'), 'good "morning" $5\ndeep\nroot 755\ndeep/data\n')
    assert.equal(await out('stat -c "%U %a" /home/user/first.txt; ls /srv/all; cat /root/who /tmp/cooked', { user: 'root' }), 'user 600\none.txt\ntwo.txt\nroot\ncook\n')
    assert.equal(await out('python3 -c "import urllib.request as u; print(u.urlopen(\'http://127.0.0.1:8123/two.txt\').read().decode())"'), 'two\n\n')
  } finally {
    await box.kill()
  }

  const second = await build(kitchen().setReadyCmd(waitForFile('/tmp/cooked')), name, { tags: ['quick', 'v2'] })
  for (const n of [1, 2, 3, 4, 5, 6, 7, 8, 9]) assert.match(second.log, new RegExp(`CACHED \\[${n}/9\\]`))
  const tags = (await Template.getTags(name)).map((t) => t.tag).sort()
  assert.deepEqual(tags, ['default', 'quick', 'v2'])

  const forced = await build(kitchen(), name, { skipCache: true, tags: ['forced'] })
  assert.doesNotMatch(forced.log, /CACHED/)
})

test('a template comes from another, of another size', async () => {
  const { info } = await build(Template({ fileContextPath: context }).fromTemplate(own('kitchen')).runCmd('nproc > /tmp/cpus'), own('larger'), { cpuCount: 2, memoryMB: 768 })
  const box = await Sandbox.create(info.templateId, { timeoutMs: 300_000, ...patient, timeoutMs: 300_000 })
  try {
    const r = await box.commands.run('cat /tmp/cpus; id -un; grep MemTotal /proc/meminfo', patient)
    const [cpus, who, memory] = r.stdout.split('\n')
    assert.equal(cpus, '2')
    assert.equal(who, 'cook')
    assert.ok(Number(memory.match(/\d+/)[0]) > 600_000, memory)
  } finally {
    await box.kill()
  }
})

test('a step that fails is the one that is told of', async () => {
  const failing = Template({ fileContextPath: context }).fromBaseImage().runCmd('true').runCmd('echo to stderr >&2; exit 3')
  const lines = []
  const info = await Template.buildInBackground(failing, own('failing'), patient)
  await assert.rejects(build(failing, own('failing'), { onBuildLogs: (e) => lines.push(e.message) }), (e) => {
    assert.ok(e instanceof BuildError, `${e}`)
    assert.match(e.message, /exit status 3/)
    assert.match(e.stack, /builds\.test\.mjs/)
    return true
  })
  assert.ok(lines.includes('to stderr'), lines.join('\n'))
  let status
  do status = await Template.getBuildStatus(info, { logsOffset: 0 })
  while (status.status === 'waiting' || status.status === 'building')
  assert.equal(status.status, 'error')
  assert.equal(status.reason.step, '2')
  assert.equal(await Template.aliasExists(own('failing')), false)

  await assert.rejects(build(Template().fromBaseImage().runCmd('whoami', { user: 'root123' }), own('failing')), /invalid username: 'root123'/)
  await assert.rejects(build(Template().fromBaseImage().setStartCmd('exit 4', 'false'), own('failing')), /start command: exit status 4/)
  await assert.rejects(build(Template().fromImage('registry.example/nginx:1'), own('failing')), /images may not come from/)
  const keys = { accessKeyId: 'a', secretAccessKey: 'b', region: 'eu-west-1' }
  await assert.rejects(build(Template().fromAWSRegistry('1.dkr.ecr.eu-west-1.amazonaws.com/a:1', keys), own('failing')), /501/)
  await assert.rejects(build(Template().fromBaseImage(), 'base'), /409/)
})
