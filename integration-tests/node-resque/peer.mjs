// An independent Resque client, npm node-resque of today.
// usage: node peer.mjs ACTION REDIS_URL NAMESPACE [ARGUMENTS…]; the actions are below.
// Those that run on print `ready`, and stop in order when their standard input ends.
import { Redis } from "ioredis";
import { MultiWorker, Queue, Scheduler, Worker } from "node-resque";

const [action, url, namespace, ...args] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const connection = { pkg: "ioredis", host: hostname, port: Number(port), database: 0, namespace };
const print = (value) => console.log(JSON.stringify(value));
const fail = (error) => {
  console.error(String(error));
  process.exit(1);
};

function inputEnds() {
  return new Promise((resolve) => process.stdin.on("end", resolve).resume());
}

async function withQueue(work) {
  const queue = new Queue({ connection });
  queue.on("error", fail);
  await queue.connect();
  await work(queue);
  await queue.end();
}

const actions = {
  // One job, whose class is the name of its queue.
  enqueue: (name, id) => withQueue((queue) => queue.enqueue(name, name, [Number(id)])),

  "enqueue-many": (name, job, first, count) =>
    withQueue(async (queue) => {
      for (let n = Number(first); n < Number(first) + Number(count); n++) await queue.enqueue(name, job, [n]);
    }),

  "enqueue-in": (ms, name, job, first, count) =>
    withQueue(async (queue) => {
      for (let n = Number(first); n < Number(first) + Number(count); n++) {
        await queue.enqueueIn(Number(ms), name, job, [n]);
      }
    }),

  // What an operator does in Node: retry and remove every failure.
  requeue: () =>
    withQueue(async (queue) => {
      for (const failure of await queue.failed(0, -1)) await queue.retryAndRemoveFailed(failure);
    }),

  // Removes every failure; prints how many it found to remove.
  "remove-failed": () =>
    withQueue(async (queue) => {
      let removed = 0;
      for (const failure of await queue.failed(0, -1)) removed += await queue.removeFailed(failure);
      print(removed);
    }),

  // Removes jobs from a queue, by class and arguments and then by class alone; prints both numbers.
  remove: (name, job, id) =>
    withQueue(async (queue) => {
      print([await queue.del(name, job, [Number(id)]), await queue.delByFunction(name, job)]);
    }),

  // All that an operator's page would show.
  listing: () =>
    withQueue(async (queue) => {
      print({
        workers: await queue.workers(),
        workingOn: await queue.allWorkingOn(),
        failed: (await queue.failed(0, -1)).map((entry) => ({ ...entry, ms: Date.parse(entry.failed_at) })),
        stats: await queue.stats(),
        delayed: await queue.allDelayed(),
      });
    }),

  // A worker of one queue. A job takes some ms and notes its number in the list `done:node`.
  work: async (name, job, ms) => {
    const perform = async function (n) {
      await new Promise((resolve) => setTimeout(resolve, Number(ms)));
      await this.connection.redis.rpush("done:node", n);
    };
    const worker = new Worker({ connection, queues: [name], timeout: 200 }, { [job]: { perform } });
    worker.on("error", fail);
    worker.on("failure", (queue, job, error) => fail(error));
    await worker.connect();
    await worker.start();
    console.log("ready");
    await inputEnds();
    await worker.end();
  },

  // A scheduler, which is also what declares workers dead: here those that were silent for five seconds.
  schedule: async () => {
    const scheduler = new Scheduler({ connection, timeout: 200, stuckWorkerTimeout: 5000 });
    scheduler.on("error", fail);
    scheduler.on("cleanStuckWorker", (name) => fail(`declared dead: ${name}`));
    await scheduler.connect();
    await scheduler.start();
    console.log("ready");
    await inputEnds();
    await scheduler.end();
  },

  // For the benchmark: a process of so many workers on jobs that do nothing, each with a connection of its `own` or all
  // on one that is `shared`. Prints when its first job began and its last ended (ms since 1970), how many it did, the
  // CPU µs that they took, and the memory in use.
  drain: async (name, number, sharing) => {
    const redis = sharing === "shared" ? new Redis({ host: hostname, port: Number(port) }) : undefined;
    let [count, sampled] = [0, 0];
    let first, last, before, after, rss;
    const perform = () => {};
    const workers = new MultiWorker(
      {
        connection: redis ? { redis, namespace } : connection,
        queues: [name],
        minTaskProcessors: Number(number),
        maxTaskProcessors: Number(number),
        timeout: 500,
        // It starts one worker in each such time.
        checkTimeout: 20,
        // No other number of workers, however busy the machine is.
        maxEventLoopDelay: 60_000,
      },
      { Nothing: { perform } },
    );
    workers.on("error", fail);
    workers.on("failure", (id, queue, job, error) => fail(error));
    workers.on("job", () => {
      if (first === undefined) [first, before] = [Date.now(), process.cpuUsage()];
    });
    workers.on("success", () => {
      count += 1;
      last = Date.now();
    });
    // The last job is not known as such: the figures are taken at each pause, that is, on an empty queue.
    workers.on("pause", () => {
      if (count > sampled) [sampled, after, rss] = [count, process.cpuUsage(before), process.memoryUsage().rss];
    });
    workers.start();
    while (workers.workers.length < Number(number)) await new Promise((resolve) => setTimeout(resolve, 50));
    console.log("ready");
    await inputEnds();
    await workers.end();
    print({ count, first, last, cpu_us: after ? after.user + after.system : 0, rss: rss ?? 0 });
    process.exit(0);
  },
};

if (!actions[action]) throw new Error(`no such action: ${action}`);
await actions[action](...args);
