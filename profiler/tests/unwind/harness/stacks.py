# Runs in gdb: stops the process OFFWAKE_PID, prints the stack of each of its threads, one a line of JSON, and lets it go on;
# OFFWAKE_LOOKS times. Starting gdb takes much longer than a look.

import json
import os
import time

import gdb

# Of a function that ended in a jump to another one, there is no frame: gdb infers from debug information that it
# was called.
KINDS = {
    gdb.NORMAL_FRAME: "normal",
    gdb.INLINE_FRAME: "inlined",
    gdb.TAILCALL_FRAME: "tail call",
    gdb.SIGTRAMP_FRAME: "signal",
}


# `svc #0`
ARM64_SYSTEM_CALL = b"\x01\x00\x00\xd4"


# Where a thread stands. On arm64 the kernel shows a system call that a stop has interrupted, and that is going to be made
# again, as one that was not made yet (do_signal in arch/arm64/kernel/signal.c).
def place(frame):
    pc = frame.pc()
    if frame.architecture().name().startswith("aarch64"):
        instruction = gdb.selected_inferior().read_memory(pc, len(ARM64_SYSTEM_CALL))
        if bytes(instruction) == ARM64_SYSTEM_CALL:
            pc += len(ARM64_SYSTEM_CALL)
    return pc


def walk():
    frames = []
    end = None
    frame = gdb.newest_frame()
    while frame is not None:
        frames.append({"pc": frame.pc(), "name": frame.name(), "kind": KINDS.get(frame.type(), "other")})
        end = gdb.frame_stop_reason_string(frame.unwind_stop_reason())
        try:
            frame = frame.older()
        except gdb.error as error:
            end = str(error)
            break
    frames[0]["pc"] = place(gdb.newest_frame())
    return {"frames": frames, "end": end}


for look in range(int(os.environ["OFFWAKE_LOOKS"])):
    if look > 0:
        # The process gets somewhere else.
        time.sleep(0.01)
    gdb.execute("attach " + os.environ["OFFWAKE_PID"])
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        print("offwake-stack " + json.dumps({"look": look, "tid": thread.ptid[1], **walk()}))
    gdb.execute("detach")
