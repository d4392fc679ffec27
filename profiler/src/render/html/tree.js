/* The tree of merged stacks: what the flame graph draws. Built once; what is shown of it, and by
   which metric, changes the sums only. A node's number is higher than its parent's. */

const ROLE = {
  thread: 0, user: 1, kernel: 2, delimiter: 3, wakerKernel: 4, wakerUser: 5, root: 10,
};

/* Names with their roles, each once: a function of a sleeper is not that of a waker. */
class Symbols {
  constructor() {
    this.numbers = new Map();
    this.name = [];
    this.role = [];
  }

  of(role, name) {
    const key = `${role} ${name}`;
    let number = this.numbers.get(key);
    if (number === undefined) {
      number = this.name.length;
      this.numbers.set(key, number);
      this.name.push(name);
      this.role.push(role);
    }
    return number;
  }
}

class Tree {
  constructor(profile, perThread, delimited) {
    const { frames, threads, wakers, waits } = profile.data;
    const symbols = new Symbols();
    const all = symbols.of(ROLE.root, "all");
    const between = symbols.of(ROLE.delimiter, "--");
    const entry = symbols.of(ROLE.delimiter, "-");
    const inSleeper = frames.label.map((label, frame) => (
      symbols.of(frames.kind[frame] ? ROLE.kernel : ROLE.user, label)));
    const inWaker = frames.label.map((label, frame) => (
      symbols.of(frames.kind[frame] ? ROLE.wakerKernel : ROLE.wakerUser, label)));
    const ofThread = threads.name.map((name, thread) => (
      symbols.of(ROLE.thread, perThread ? `${name}-${threads.tid[thread]}` : name)));
    const ofWaker = wakers.label.map((label, waker) => symbols.of(wakers.role[waker], label));
    this.symbols = symbols;

    this.length = 0;
    this.grow(1 << 14);
    this.add(0, all);
    this.leaf = new Uint32Array(profile.length);
    const { parent, frame } = profile;
    const isUser = (index) => symbols.role[index] === ROLE.user || symbols.role[index] === ROLE.wakerUser;
    const path = [];
    for (let wait = 0; wait < profile.length; wait++) {
      let at = this.child(0, ofThread[waits.sleeper[wait]]);
      path.length = 0;
      for (let node = waits.sleeper_stack[wait]; node !== 0; node = parent[node]) {
        path.push(inSleeper[frame[node]]);
      }
      for (let index = path.length - 1; index >= 0; index--) {
        at = this.child(at, path[index]);
        if (delimited && index > 0 && isUser(path[index]) && !isUser(path[index - 1])) {
          at = this.child(at, entry);
        }
      }
      at = this.child(at, between);
      let last = -1;
      for (let node = waits.waker_stack[wait]; node !== 0; node = parent[node]) {
        const symbol = inWaker[frame[node]];
        if (delimited && last >= 0 && isUser(symbol) && !isUser(last)) at = this.child(at, entry);
        at = this.child(at, symbol);
        last = symbol;
      }
      this.leaf[wait] = this.child(at, ofWaker[waits.waker[wait]]);
    }
    this.table = null;
    this.order();
  }

  /* Room for this many nodes. The hash table (open addressing: nodes, 0 is free) has twice as many. */
  grow(capacity) {
    const copy = (old) => {
      const made = new Uint32Array(capacity);
      if (old) made.set(old);
      return made;
    };
    this.parent = copy(this.parent);
    this.symbol = copy(this.symbol);
    this.table = new Uint32Array(capacity * 2);
    for (let node = 1; node < this.length; node++) this.table[this.slot(this.parent[node], this.symbol[node])] = node;
  }

  slot(parent, symbol) {
    const mask = this.table.length - 1;
    let hash = Math.imul(parent, 0x9e3779b1) ^ Math.imul(symbol, 0x85ebca6b);
    hash ^= hash >>> 15;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const node = this.table[slot];
      if (node === 0 || (this.parent[node] === parent && this.symbol[node] === symbol)) return slot;
    }
  }

  add(parent, symbol) {
    if (this.length === this.parent.length) this.grow(this.length * 2);
    this.parent[this.length] = parent;
    this.symbol[this.length] = symbol;
    return this.length++;
  }

  child(parent, symbol) {
    const found = this.table[this.slot(parent, symbol)];
    if (found !== 0) return found;
    const node = this.add(parent, symbol);
    this.table[this.slot(parent, symbol)] = node;
    return node;
  }

  /* The children of each node, by name: children[first[node] .. first[node + 1]]. */
  order() {
    const { symbols, length } = this;
    const bySymbol = symbols.name.map((_, index) => index).sort((a, b) => (
      compareText(symbols.name[a], symbols.name[b]) || symbols.role[a] - symbols.role[b]));
    const rank = new Uint32Array(bySymbol.length);
    bySymbol.forEach((symbol, index) => { rank[symbol] = index; });
    const nodes = countingSort(
      Uint32Array.from({ length: length - 1 }, (_, index) => index + 1), rank.length, (node) => rank[this.symbol[node]]).sorted;
    const { sorted, first } = countingSort(nodes, length, (node) => this.parent[node]);
    this.children = sorted;
    this.first = first;
  }

  /* The sum of `values` at and above each node, of the waits in `shown`. */
  sums(values, shown) {
    const sums = new Float64Array(this.length);
    for (let wait = 0; wait < values.length; wait++) {
      if (shown[wait]) sums[this.leaf[wait]] += values[wait];
    }
    for (let node = this.length - 1; node > 0; node--) sums[this.parent[node]] += sums[node];
    return sums;
  }

  name(node) {
    return this.symbols.name[this.symbol[node]];
  }

  role(node) {
    return this.symbols.role[this.symbol[node]];
  }

  /* For each wait, whether its stack goes through the node. */
  waitsThrough(node) {
    const inside = new Uint8Array(this.length);
    inside[node] = 1;
    for (let other = node + 1; other < this.length; other++) inside[other] |= inside[this.parent[other]];
    return Uint8Array.from(this.leaf, (leaf) => inside[leaf]);
  }
}

function compareText(a, b) {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/* Stable. `key` gives numbers below `keys`. */
function countingSort(items, keys, key) {
  const first = new Uint32Array(keys + 1);
  for (const item of items) first[key(item) + 1]++;
  for (let index = 0; index < keys; index++) first[index + 1] += first[index];
  const next = first.slice();
  const sorted = new Uint32Array(items.length);
  for (const item of items) sorted[next[key(item)]++] = item;
  return { sorted, first };
}
