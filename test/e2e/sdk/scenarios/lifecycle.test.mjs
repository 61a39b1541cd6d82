import { test } from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox, SandboxNotFoundError, TimeoutError, create, patient, until } from './sdk.mjs'

test('create, info, extend, shorten, kill', async () => {
  const box = await create({ metadata: { job: 'one' } })
  try {
    const info = await box.getInfo()
    assert.match(box.sandboxId, /^i[a-z0-9]{20}$/)
    assert.equal(info.state, 'running')
    assert.equal(info.templateId, 'base')
    assert.deepEqual(info.metadata, { job: 'one' })
    assert.equal(info.envdVersion, '0.6.13')
    const lasts = info.endAt - info.startedAt
    assert.ok(lasts > 500_000 && lasts < 700_000, `lasts ${lasts} ms`)

    const same = await Sandbox.connect(box.sandboxId, { timeoutMs: 60_000 })
    assert.deepEqual((await same.getInfo()).endAt, info.endAt, 'connect must not shorten')
    await Sandbox.connect(box.sandboxId, { timeoutMs: 1_200_000 })
    assert.ok((await box.getInfo()).endAt > info.endAt, 'connect extends')
    await box.setTimeout(30_000)
    assert.ok((await box.getInfo()).endAt < info.endAt, 'setTimeout shortens')
    assert.equal(await box.isRunning(), true)
  } finally {
    assert.equal(await box.kill(), true)
  }
  assert.equal(await box.kill(), false)
  assert.equal(await box.isRunning(), false)
  await assert.rejects(Sandbox.getInfo(box.sandboxId), SandboxNotFoundError)
  await assert.rejects(Sandbox.connect(box.sandboxId), SandboxNotFoundError)
})

test('pause and come back', async () => {
  const box = await create({ metadata: { job: 'pause' } })
  try {
    const sleep = await box.commands.run('sleep 1000', { ...patient, background: true })
    await box.files.write('kept', 'yes')
    assert.equal(await box.pause(patient), true)
    assert.equal(await box.pause(), false)
    assert.equal(await box.isRunning(), false)
    assert.equal((await Sandbox.getInfo(box.sandboxId)).state, 'paused')
    const back = await box.connect({ ...patient, timeoutMs: 600_000 })
    assert.equal(await back.isRunning(), true)
    assert.equal(await back.files.read('kept'), 'yes')
    assert.ok((await back.commands.list()).some((p) => p.pid === sleep.pid), 'what ran goes on')
  } finally {
    await box.kill()
  }
})

test('its time is over', async () => {
  const [dies, pauses] = await Promise.all([
    create({ timeoutMs: 5_000 }),
    create({ timeoutMs: 5_000, lifecycle: { onTimeout: 'pause' } }),
  ])
  try {
    await until(async () => !(await dies.isRunning()))
    await assert.rejects(Sandbox.getInfo(dies.sandboxId), SandboxNotFoundError)
    await until(async () => (await Sandbox.getInfo(pauses.sandboxId)).state === 'paused')
    assert.equal((await Sandbox.getInfo(pauses.sandboxId)).lifecycle?.onTimeout ?? 'pause', 'pause')
  } finally {
    await Sandbox.kill(pauses.sandboxId)
  }
})

test('list', async () => {
  const mark = `a b&${Math.random()}`
  const boxes = []
  try {
    for (let i = 0; i < 3; i++) boxes.push(await create({ metadata: { mark, n: `${i}` } }))
    await boxes[0].pause(patient)
    const ids = async (opts) => {
      const all = []
      const pages = Sandbox.list(opts)
      while (pages.hasNext) all.push(...(await pages.nextItems()))
      return all.map((s) => s.sandboxId)
    }
    const [a, b, c] = boxes.map((s) => s.sandboxId)
    assert.deepEqual(await ids({ query: { metadata: { mark } } }), [c, b, a])
    assert.deepEqual(await ids({ query: { metadata: { mark } }, limit: 1 }), [c, b, a], 'page by page')
    assert.deepEqual(await ids({ query: { metadata: { mark }, state: ['running'] } }), [c, b])
    assert.deepEqual(await ids({ query: { metadata: { mark }, state: ['paused'] } }), [a])
    assert.deepEqual(await ids({ query: { metadata: { mark, n: '1' } } }), [b])
    assert.deepEqual(await ids({ query: { metadata: { mark: 'none' } } }), [])
  } finally {
    for (const s of boxes) await s.kill()
  }
})

test('killed while a command runs', async () => {
  const box = await create()
  const sleep = await box.commands.run('sleep 1000', { ...patient, background: true })
  const cut = assert.rejects(sleep.wait(), TimeoutError)
  await box.kill()
  await cut
})
