"""Threads that sleep in nested functions, and on a condition."""

import threading
import time


class Sleeper:
    def __init__(self, depth):
        self.depth = depth

    def sleep(self, depth=None):
        depth = self.depth if depth is None else depth
        if depth:
            # By C code: a key function of sort.
            [0].sort(key=lambda _: self.sleep(depth - 1))
        while True:
            time.sleep(0.002)


def wait():
    condition = threading.Condition()
    with condition:
        while True:
            condition.wait(0.002)


def read(lock):
    while True:
        lock.acquire(timeout=0.002)


lock = threading.Lock()
lock.acquire()
for function, args in [(Sleeper(1).sleep, ()), (Sleeper(5).sleep, ()), (wait, ()), (read, (lock,))]:
    threading.Thread(target=function, args=args, daemon=True).start()
time.sleep(0.1)
print("ready", flush=True)
Sleeper(2).sleep()
