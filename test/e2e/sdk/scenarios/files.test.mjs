import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { FileNotFoundError, FileType, create, patient, until } from './sdk.mjs'

let box
before(async () => { box = await create() })
after(() => box?.kill())

test('write, read, info, list, rename, remove', async () => {
  const w = await box.files.write('a/b.txt', 'hello')
  assert.equal(w.path, '/home/user/a/b.txt')
  assert.equal(await box.files.read('a/b.txt'), 'hello')
  const info = await box.files.getInfo('a/b.txt')
  assert.equal(info.type, FileType.FILE)
  assert.equal(info.owner, 'user')
  assert.equal(info.mode, 0o644)
  assert.equal(info.size, 5)
  assert.equal(await box.files.makeDir('a/dir'), true)
  assert.equal(await box.files.makeDir('a/dir'), false)
  assert.deepEqual((await box.files.list('a')).map((e) => e.name), ['b.txt', 'dir'])
  assert.equal((await box.files.rename('a/b.txt', 'a/dir/c.txt')).path, '/home/user/a/dir/c.txt')
  assert.equal(await box.files.exists('a/b.txt'), false)
  await box.files.remove('a')
  assert.equal(await box.files.exists('a'), false)
  await assert.rejects(box.files.read('nowhere'), FileNotFoundError)
})

test('several at once, bytes, streams, gzip, metadata', async () => {
  const bytes = new Uint8Array(300_000).map((_, i) => i % 251)
  await box.files.writeFiles([{ path: 'x/1', data: 'one' }, { path: 'x/2', data: bytes }])
  assert.deepEqual(new Uint8Array(await box.files.read('x/2', { format: 'bytes' })), bytes)
  let n = 0
  for await (const chunk of await box.files.read('x/2', { format: 'stream' })) n += chunk.length
  assert.equal(n, bytes.length)
  await box.files.write('x/3', new Blob([bytes]).stream())
  assert.equal((await box.files.getInfo('x/3')).size, bytes.length)
  await box.files.write('x/4', bytes, { gzip: true })
  assert.deepEqual(new Uint8Array(await box.files.read('x/4', { format: 'bytes', gzip: true })), bytes)
  const w = await box.files.write('x/5', 'labelled', { metadata: { colour: 'red' } })
  assert.deepEqual(w.metadata, { colour: 'red' })
  assert.deepEqual((await box.files.getInfo('x/5')).metadata, { colour: 'red' })
})

test('watch', async () => {
  await box.files.makeDir('w')
  const seen = []
  const watch = await box.files.watchDir('w', (e) => seen.push(`${e.type} ${e.name}`), { recursive: true, ...patient, timeoutMs: 0 })
  await box.files.write('w/f', '1')
  await until(() => seen.includes('create f') && seen.some((s) => s === 'write f'))
  await watch.stop()
})
