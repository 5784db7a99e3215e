// An independent Resque client, npm node-resque.
// usage: node peer.mjs enqueue REDIS_URL NAMESPACE QUEUE ID | requeue REDIS_URL NAMESPACE
import { Queue } from "node-resque";

const [action, url, namespace, name, id] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const queue = new Queue({ connection: { pkg: "ioredis", host: hostname, port: Number(port), database: 0, namespace } });
queue.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});
await queue.connect();
if (action === "enqueue") {
  await queue.enqueue(name, name, [Number(id)]);
} else if (action === "requeue") {
  // What an operator does in Node: retry and remove every failure.
  for (const failure of await queue.failed(0, -1)) await queue.retryAndRemoveFailed(failure);
} else {
  throw new Error(`no such action: ${action}`);
}
await queue.end();
