// An independent Resque client of 2014, npm node-resque 0.7.1, as its users ran it then.
// usage: node peer.mjs ACTION REDIS_URL NAMESPACE [ARGUMENTS…]; the actions are below.
// Those that run on print `ready`, and stop in order when their standard input ends.
import resque from "node-resque";

const [action, url, namespace, ...args] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const connection = { host: hostname, port: Number(port), database: 0, namespace };
const print = (value) => console.log(JSON.stringify(value));
const fail = (error) => {
  console.error(String(error));
  process.exit(1);
};

function inputEnds() {
  return new Promise((resolve) => process.stdin.on("end", resolve).resume());
}

/** Calls a function that takes a callback, of an object. */
function call(object, name, ...args) {
  return new Promise((resolve, reject) => {
    object[name](...args, (error, result) => (error ? reject(error) : resolve(result)));
  });
}

async function withQueue(work) {
  const queue = await new Promise((resolve, reject) => {
    const queue = new resque.queue({ connection }, (error) => (error ? reject(error) : resolve(queue)));
  });
  await work(queue);
  await call(queue, "end");
}

const actions = {
  "enqueue-many": (name, job, first, count) =>
    withQueue(async (queue) => {
      for (let n = Number(first); n < Number(first) + Number(count); n++) await call(queue, "enqueue", name, job, [n]);
    }),

  "enqueue-in": (ms, name, job, first, count) =>
    withQueue(async (queue) => {
      for (let n = Number(first); n < Number(first) + Number(count); n++) {
        await call(queue, "enqueueIn", Number(ms), name, job, [n]);
      }
    }),

  // For which seconds a job is scheduled.
  "scheduled-at": (name, job, id) =>
    withQueue(async (queue) => print(await call(queue, "scheduledAt", name, job, [Number(id)]))),

  // A worker of one queue. A job takes some ms and notes its number in the list `done:node-2014`. First it removes the
  // workers of its host whose process has ended, as its manual has it.
  work: async (name, job, ms) => {
    const perform = function (n, done) {
      setTimeout(() => this.connection.redis.rpush("done:node-2014", n, done), Number(ms));
    };
    const worker = await new Promise((resolve) => {
      const worker = new resque.worker({ connection, queues: [name], timeout: 200 }, { [job]: { perform } }, () =>
        resolve(worker),
      );
    });
    worker.on("error", (queue, job, error) => fail(error));
    worker.on("cleaning_worker", (name) => fail(`declared dead: ${name}`));
    await new Promise((resolve) => worker.workerCleanup(resolve));
    worker.start();
    console.log("ready");
    await inputEnds();
    await new Promise((resolve) => worker.end(resolve));
    worker.connection.disconnect();
  },
};

if (!actions[action]) throw new Error(`no such action: ${action}`);
await actions[action](...args);
