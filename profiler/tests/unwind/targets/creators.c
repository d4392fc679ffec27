// Creates threads and processes, again and again, in functions that say how. The C library's part of it is code whose
// return address is not where it usually is, or whose call frame information ends before the system call.

#include "doze.h"
#include <sys/wait.h>

static const struct timespec brief = {0, 2000000};

static void *live(void *unused) {
    nanosleep(&brief, 0);
    return unused;
}

NOIPA static void make_thread(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, live, 0) != 0) die("pthread_create");
    pthread_join(thread, 0);
    STAY;
}

NOIPA static void make_process(void) {
    pid_t child = fork();
    if (child == 0) {
        nanosleep(&brief, 0);
        _exit(0);
    }
    waitpid(child, 0, 0);
    STAY;
}

// The parent sleeps until the child has ended.
NOIPA static void lend_itself(void) {
    pid_t child = vfork();
    if (child == 0) {
        nanosleep(&brief, 0);
        _exit(0);
    }
    waitpid(child, 0, 0);
    STAY;
}

int main(void) {
    say("ready");
    for (;;) {
        make_thread();
        make_process();
        lend_itself();
    }
}
