/* The profile: columns of waits, and what they have in common. */

const METRICS = ["off", "blocked", "runqueue", "count"];
const SCHEDULER = 2;

class Profile {
  constructor(data) {
    this.data = data;
    const { waits } = data;
    this.length = waits.count.length;
    this.values = {
      off: Float64Array.from(waits.blocked, (ns, index) => ns + waits.runqueue[index]),
      blocked: Float64Array.from(waits.blocked),
      runqueue: Float64Array.from(waits.runqueue),
      count: Float64Array.from(waits.count),
      max: Float64Array.from(waits.max),
    };
    /* A diff: the values of both as rates. */
    const { before } = data;
    this.isDiff = before !== null;
    this.unit = "";
    if (this.isDiff) {
      const [beforeFactor, afterFactor] = before.factors;
      const scaled = (column) => Float64Array.from(column, (value) => value * beforeFactor);
      for (const metric of METRICS) this.values[metric] = this.values[metric].map((value) => value * afterFactor);
      this.before = { blocked: scaled(before.blocked), runqueue: scaled(before.runqueue), count: scaled(before.count) };
      this.before.off = this.before.blocked.map((ns, index) => ns + this.before.runqueue[index]);
      this.unit = before.unit;
    }
    this.values.mean = this.values.off.map((ns, index) => ns / Math.max(1, waits.count[index]));
    this.parent = Uint32Array.from(data.nodes.parent);
    this.frame = Uint32Array.from(data.nodes.frame);
    /* What waits are split by: for each wait the number of its group, and the names of all groups. */
    this.splits = [
      group("thread", "By thread", waits.sleeper.map((thread) => data.threads.name[thread])),
      group("state", "By state", waits.state.map((state) => data.states[state])),
      group("waker", "By waker", waits.waker.map((waker) => data.wakers.label[waker])),
    ];
    this.paths = new Map();
  }

  /* The frames of a stack, innermost first. */
  stack(node) {
    const frames = [];
    for (; node !== 0; node = this.parent[node]) frames.push(this.frame[node]);
    return frames;
  }

  /* A stack on one line, from the first frame that says what for. */
  path(node) {
    let path = this.paths.get(node);
    if (path === undefined) {
      const { kind, label } = this.data.frames;
      const frames = this.stack(node);
      const start = Math.max(0, frames.findIndex((frame) => kind[frame] !== SCHEDULER));
      path = frames.slice(start, start + 8).map((frame) => label[frame]).join(" ← ");
      this.paths.set(node, path);
    }
    return path;
  }

  sleeper(wait) {
    const { threads, waits } = this.data;
    const thread = waits.sleeper[wait];
    const { name, tid } = threads;
    return tid[thread] ? `${name[thread]} ${tid[thread]}` : name[thread];
  }

  waker(wait) {
    const { wakers, waits } = this.data;
    const waker = waits.waker[wait];
    return wakers.tid[waker] ? `${wakers.label[waker]} ${wakers.tid[waker]}` : wakers.label[waker];
  }

  state(wait) {
    return this.data.states[this.data.waits.state[wait]];
  }

  /* Which waits have a name that matches anywhere: 1 for each that has. */
  search(matches) {
    const { frames, threads, wakers, waits } = this.data;
    const once = (names) => Uint8Array.from(names, (name) => (matches(name) ? 1 : 0));
    const inFrame = once(frames.label);
    const inThread = once(threads.name);
    const inWaker = once(wakers.label);
    const inNode = new Uint8Array(this.parent.length);
    for (let node = 1; node < inNode.length; node++) {
      inNode[node] = inFrame[this.frame[node]] | inNode[this.parent[node]];
    }
    return Uint8Array.from(waits.sleeper, (thread, wait) => inThread[thread]
      | inWaker[waits.waker[wait]] | inNode[waits.sleeper_stack[wait]] | inNode[waits.waker_stack[wait]]);
  }
}

function group(id, title, names) {
  const numbers = new Map();
  const of = Uint32Array.from(names, (name) => {
    if (!numbers.has(name)) numbers.set(name, numbers.size);
    return numbers.get(name);
  });
  return { id, title, of, names: [...numbers.keys()], chosen: new Set() };
}

/* The test of a search, or null if everything is wanted. Throws for a wrong regular expression. */
function parseQuery(text) {
  if (text === "") return null;
  const quoted = /^\/(.+)\/$/.exec(text);
  if (quoted) {
    const regex = new RegExp(quoted[1], "i");
    return (name) => regex.test(name);
  }
  const wanted = text.toLowerCase();
  return (name) => name.toLowerCase().includes(wanted);
}
