// Fetch a whole UnixFS directory with Helia from one plain-HTTP trustless gateway, verifying every block.
// usage: node fetch.mjs GATEWAY_URL ROOT_CID OUTPUT_FOLDER
import { fallbackRouter } from '@helia/fallback-router'
import { trustlessGatewayBlockBroker } from '@helia/trustless-gateway-client'
import { unixfs } from '@helia/unixfs'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'
import { copy } from './copy.mjs'

const [gateway, root, output] = process.argv.slice(2)
// The one gateway is the first choice here, not what is left when all other routers have failed.
const router = fallbackRouter({ gateways: [gateway] })
router.capabilities = () => ['findProviders']
const helia = createHeliaLight()
helia.addRouter(router)
helia.addBlockBroker(trustlessGatewayBlockBroker({ allowInsecure: true, allowLocal: true }))
await helia.start()
const fs = unixfs(helia)

await copy(fs, CID.parse(root), output)
await helia.stop()
process.exit(0)
