// A UnixFS directory of a Helia node, written to a folder.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export async function copy (fs, cid, target) {
  await mkdir(target, { recursive: true })
  for await (const entry of fs.ls(cid)) {
    const path = join(target, entry.name)
    const stat = await fs.stat(entry.cid)
    if (stat.type === 'directory') {
      await copy(fs, entry.cid, path)
      continue
    }
    const pieces = []
    for await (const piece of fs.cat(entry.cid)) {
      pieces.push(piece)
    }
    await writeFile(path, Buffer.concat(pieces))
  }
}
