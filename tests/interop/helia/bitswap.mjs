// Helia with Bitswap over libp2p (TCP, Noise, Yamux) as its only source, on loopback.
// usage: node bitswap.mjs fetch PEER_ADDRESS ROOT_CID OUTPUT_FOLDER    dial, copy the directory, exit
//        node bitswap.mjs serve FOLDER                                 add the files, print JSON, wait for stdin to end
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { unixfs } from '@helia/unixfs'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'
import { copy } from './copy.mjs'

const helia = withBitswap(withLibp2pLight(createHeliaLight(), {
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify() }
}))
await helia.start()
const fs = unixfs(helia)

async function add (folder) {
  let directory = await fs.addDirectory()
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    const cid = entry.isDirectory() ? await add(path) : await fs.addBytes(await readFile(path))
    directory = await fs.cp(cid, directory, entry.name)
  }
  return directory
}

const [mode, first, root, output] = process.argv.slice(2)
if (mode === 'fetch') {
  await helia.libp2p.dial(multiaddr(first))
  await copy(fs, CID.parse(root), output)
} else {
  const cid = await add(first)
  const address = helia.libp2p.getMultiaddrs()[0].toString()
  console.log(JSON.stringify({ root: cid.toString(), address }))
  for await (const _ of process.stdin) { /* until it ends */ }
}
await helia.stop()
process.exit(0)
