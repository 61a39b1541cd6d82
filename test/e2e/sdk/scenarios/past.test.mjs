import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox, SandboxNotFoundError, create, patient, until } from './sdk.mjs'

let box
before(async () => {
  box = await create()
  await box.files.write('state', 'before')
})
after(() => box?.kill())

test('snapshots outlive their sandbox', async () => {
  const unnamed = await box.createSnapshot(patient)
  const named = await box.createSnapshot({ ...patient, name: 'sdk-state:v1' })
  assert.ok(named.snapshotId.endsWith('/sdk-state:v1'), named.snapshotId)
  await box.files.write('state', 'after')

  const listed = []
  for (const pages = box.listSnapshots({ limit: 1 }); pages.hasNext;) listed.push(...(await pages.nextItems()))
  assert.deepEqual(listed.map((s) => s.snapshotId), [named.snapshotId, unnamed.snapshotId])

  for (const s of [unnamed, named]) {
    const from = await Sandbox.create(s.snapshotId, { timeoutMs: 60_000, ...patient, timeoutMs: 60_000 })
    try {
      assert.equal(await from.files.read('state'), 'before')
    } finally {
      await from.kill()
    }
    assert.equal(await Sandbox.deleteSnapshot(s.snapshotId), true)
    assert.equal(await Sandbox.deleteSnapshot(s.snapshotId), false)
  }
})

test('forks go on from now', async () => {
  await box.files.write('state', 'forked')
  const forks = await box.fork({ ...patient, count: 2, timeoutMs: 120_000 })
  try {
    assert.equal(forks.length, 2)
    for (const f of forks) {
      assert.ok(!(f instanceof Error), `${f}`)
      assert.equal(await f.files.read('state'), 'forked')
    }
    await forks[0].files.write('state', 'mine')
    assert.equal(await box.files.read('state'), 'forked')
  } finally {
    for (const f of forks) if (!(f instanceof Error)) await f.kill()
  }
  await assert.rejects(Sandbox.fork('i00000000000000000000'), SandboxNotFoundError)
})

test('metrics', async () => {
  const all = await until(async () => {
    const m = await box.getMetrics()
    return m.length > 0 && m
  })
  assert.ok(all[0].memTotal > 100_000_000 && all[0].cpuCount >= 1 && all[0].diskTotal > 0, JSON.stringify(all[0]))
  assert.deepEqual(await box.getMetrics({ start: new Date(0), end: new Date(1000) }), [])
})

test('network', async () => {
  const allowed = async () => (await (await fetch(`${process.env.E2B_API_URL}/sandboxes/${box.sandboxId}/egress/test`, {
    method: 'POST', headers: { 'X-API-Key': process.env.E2B_API_KEY }, body: '{"destination":"1.1.1.1:443"}',
  })).json()).allowed
  await box.updateNetwork({ denyOut: ['0.0.0.0/0'] })
  assert.equal(await allowed(), false)
  await box.updateNetwork({ denyOut: ['0.0.0.0/0'], allowOut: ['1.1.1.1'] })
  assert.equal(await allowed(), true)
  await box.updateNetwork({ denyOut: ['1.0.0.0/8'] })
  assert.equal(await allowed(), false)
  await box.updateNetwork({})
  assert.equal(await allowed(), true)
  await assert.rejects(box.updateNetwork({ denyOut: ['a.example'] }), /denyOut/)
  const closed = await create({ allowInternetAccess: false })
  try {
    assert.equal((await closed.getInfo()).allowInternetAccess, false)
  } finally {
    await closed.kill()
  }
})
