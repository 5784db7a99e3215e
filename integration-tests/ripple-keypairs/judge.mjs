// Reads seeds on stdin, one a line, and prints for each the address that ripple-keypairs derives.
import { createInterface } from 'node:readline'
import { deriveAddress, deriveKeypair } from 'ripple-keypairs'

for await (const seed of createInterface({ input: process.stdin })) {
  if (seed) console.log(deriveAddress(deriveKeypair(seed).publicKey))
}
