// A worker and the main thread, asleep in functions with known names.

const { Worker, isMainThread } = require("worker_threads");

const cell = new Int32Array(new SharedArrayBuffer(4));

function sleepOnce() {
  Atomics.wait(cell, 0, 0, 2);
}

function sleepOften(count) {
  for (let i = 0; i < count; i++) sleepOnce();
}

function sleepForever() {
  for (;;) sleepOften(10);
}

if (isMainThread) {
  new Worker(__filename);
  setTimeout(() => {
    require("fs").writeSync(1, "ready\n");
    sleepForever();
  }, 500);
} else {
  sleepForever();
}
