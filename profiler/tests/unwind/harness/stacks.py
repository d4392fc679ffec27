# Runs in gdb: prints the stack of each thread of the process that gdb stopped, one a line of JSON.

import json

import gdb

# Of a function that ended in a jump to another one, there is no frame: gdb infers from debug information that it
# was called.
KINDS = {
    gdb.NORMAL_FRAME: "normal",
    gdb.INLINE_FRAME: "inlined",
    gdb.TAILCALL_FRAME: "tail call",
    gdb.SIGTRAMP_FRAME: "signal",
}


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
    return {"frames": frames, "end": end}


for thread in gdb.selected_inferior().threads():
    thread.switch()
    print("offwake-stack " + json.dumps({"tid": thread.ptid[1], **walk()}))
