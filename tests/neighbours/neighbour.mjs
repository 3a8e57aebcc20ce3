// node-resque for the tests:
//
//   node neighbour.mjs PORT call METHOD JSON   call a method of Queue, print what it returns as JSON
//   node neighbour.mjs PORT work QUEUES        work on queues (comma-separated) until SIGTERM
//   node neighbour.mjs PORT schedule           promote delayed jobs until SIGTERM
//   node neighbour.mjs PORT trace JSON         enqueue Traces: [[queue, seconds from now, args], ...]

import Redis from "ioredis";
import resque from "node-resque";

const [port, command, ...rest] = process.argv.slice(2);
const connection = { pkg: "ioredis", host: "127.0.0.1", port: Number(port), database: 0 };

const jobs = {
  Echo: { perform: async (...args) => echo(args) },
  FailsInNode: {
    perform: async (...args) => {
      throw new Error(`node cannot ☃ ${JSON.stringify(args)}`);
    },
  },
  FailsInPython: { perform: async (...args) => echo(args) },
  Slow: {
    perform: async (name) => {
      await redis.rpush("begun", process.pid);
      // A separate connection, since node-resque continues to use the other one.
      const gate = new Redis(connection.port, connection.host);
      await gate.blpop(`gate:${name}`, 20);
      gate.disconnect();
      return echo([name]);
    },
  },
  // Records a trace at its start and, unless doomed, at its end.
  Trace: {
    perform: async (number, seconds, doomed) => {
      const trace = `${number} ${process.pid} ${process.hrtime.bigint()} node`;
      await redis.sadd("chaos:begun", trace);
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      if (doomed) throw new Error(`job ${number} fails on purpose`);
      await redis.sadd("chaos:ended", trace);
    },
  },
};

let redis;

async function echo(args) {
  await redis.rpush("echoed", JSON.stringify(args));
}

function failed(error) {
  console.error(error);
  process.exit(1);
}

async function call(method, args) {
  const queue = new resque.Queue({ connection }, {});
  queue.on("error", failed);
  await queue.connect();
  const answer = await queue[method](...JSON.parse(args));
  console.log(JSON.stringify(answer === undefined ? null : answer));
  await queue.end();
}

async function trace(text) {
  const queue = new resque.Queue({ connection }, {});
  queue.on("error", failed);
  await queue.connect();
  for (const [name, later, args] of JSON.parse(text)) {
    if (later) await queue.enqueueIn(later * 1000, name, "Trace", args);
    else await queue.enqueue(name, "Trace", args);
  }
  await queue.end();
}

async function untilTerm(daemon) {
  daemon.on("error", failed);
  await daemon.connect();
  process.on("SIGTERM", async () => {
    await daemon.end();
    process.exit(0);
  });
  await daemon.start();
}

async function work(queues) {
  redis = new Redis(connection.port, connection.host);
  await untilTerm(new resque.Worker({ connection, queues: queues.split(","), timeout: 50 }, jobs));
}

async function schedule() {
  await untilTerm(new resque.Scheduler({ connection, timeout: 100 }, jobs));
}

await { call, trace, work, schedule }[command](...rest);
