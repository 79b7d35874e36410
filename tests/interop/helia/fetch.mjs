// Fetch a whole UnixFS directory with Helia from one plain-HTTP trustless gateway, verifying every block.
// usage: node fetch.mjs GATEWAY_URL ROOT_CID OUTPUT_FOLDER
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fallbackRouter } from '@helia/fallback-router'
import { trustlessGatewayBlockBroker } from '@helia/trustless-gateway-client'
import { unixfs } from '@helia/unixfs'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'

const [gateway, root, output] = process.argv.slice(2)
// The one gateway is the first choice here, not what is left when all other routers have failed.
const router = fallbackRouter({ gateways: [gateway] })
router.capabilities = () => ['findProviders']
const helia = createHeliaLight()
helia.addRouter(router)
helia.addBlockBroker(trustlessGatewayBlockBroker({ allowInsecure: true, allowLocal: true }))
await helia.start()
const fs = unixfs(helia)

async function copy (cid, target) {
  await mkdir(target, { recursive: true })
  for await (const entry of fs.ls(cid)) {
    const path = join(target, entry.name)
    const stat = await fs.stat(entry.cid)
    if (stat.type === 'directory') {
      await copy(entry.cid, path)
      continue
    }
    const pieces = []
    for await (const piece of fs.cat(entry.cid)) {
      pieces.push(piece)
    }
    await writeFile(path, Buffer.concat(pieces))
  }
}

await copy(CID.parse(root), output)
await helia.stop()
process.exit(0)
