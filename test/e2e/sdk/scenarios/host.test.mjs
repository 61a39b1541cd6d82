import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import https from 'node:https'
import { create, patient, until } from './sdk.mjs'

let box
before(async () => { box = await create() })
after(() => box?.kill())

// get is fetch over TLS by node's own client, whose names resolve.mjs resolves.
function get(url, headers = {}) {
  return new Promise((resolve, reject) => {
    https.get(url, { headers, agent: false }, (res) => {
      let body = ''
      res.setEncoding('utf8')
      res.on('data', (d) => { body += d })
      res.on('end', () => resolve({ status: res.statusCode, body }))
    }).on('error', reject)
  })
}

test('signed URLs', async () => {
  await box.files.write('signed.txt', 'for whoever has the URL')
  const url = await box.downloadUrl('signed.txt', { useSignatureExpiration: 60 })
  const read = await fetch(url)
  assert.equal(read.status, 200)
  assert.equal(await read.text(), 'for whoever has the URL')
  const stale = await box.downloadUrl('signed.txt', { useSignatureExpiration: -60 })
  assert.equal((await fetch(stale)).status, 401)
  assert.equal((await fetch(url.replace('signed.txt', 'other.txt'))).status, 401)

  const form = new FormData()
  form.append('file', new Blob(['uploaded']), 'up.txt')
  const put = await fetch(await box.uploadUrl('up.txt'), { method: 'POST', body: form })
  assert.equal(put.status, 200)
  assert.deepEqual(await put.json(), [{ name: 'up.txt', path: '/home/user/up.txt', type: 'file' }])
  assert.equal(await box.files.read('up.txt'), 'uploaded')
})

test('a port by its host name over TLS', async () => {
  await box.files.write('www/index.html', 'hello from inside')
  await box.commands.run('cd www && exec python3 -m http.server 8000', { ...patient, background: true, timeoutMs: 0 })
  const url = `https://${box.getHost(8000)}/`
  assert.match(url, new RegExp(`^https://8000-${box.sandboxId}\\.bulkhead\\.test:`))
  const answer = await until(async () => {
    const r = await get(url)
    return r.status === 200 && r
  })
  assert.equal(answer.body, 'hello from inside')
  const closed = await get(`https://${box.getHost(8001)}/`)
  assert.equal(closed.status, 502)
  assert.equal(JSON.parse(closed.body).code, 502)
})

test('private ports, and a sandbox that wakes', async () => {
  const quiet = await create({
    network: { allowPublicTraffic: false }, lifecycle: { onTimeout: 'pause', autoResume: true },
  })
  try {
    assert.ok(quiet.trafficAccessToken, 'there is a token for traffic')
    await quiet.commands.run('exec python3 -m http.server 8080', { ...patient, background: true, timeoutMs: 0, cwd: '/etc' })
    const url = `https://${quiet.getHost(8080)}/hostname`
    const token = { 'e2b-traffic-access-token': quiet.trafficAccessToken }
    await until(async () => (await get(url, token)).status === 200)
    assert.equal((await get(url)).status, 403)
    assert.equal((await quiet.getInfo()).lifecycle.autoResume, true)
    await quiet.pause(patient)
    const woken = await until(async () => {
      const r = await get(url, token)
      return r.status === 200 && r
    })
    assert.ok(woken.body.length > 0)
    assert.equal((await quiet.getInfo()).state, 'running')
  } finally {
    await quiet.kill()
  }
})
