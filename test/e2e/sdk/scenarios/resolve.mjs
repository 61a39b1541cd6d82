// Names below the host's domain lead to it, as its DNS would say.
import dns from 'node:dns'

const lookup = dns.lookup
dns.lookup = (name, options, done) => {
  if (name.endsWith('.bulkhead.test')) name = '127.0.0.1'
  return lookup(name, options, done)
}
