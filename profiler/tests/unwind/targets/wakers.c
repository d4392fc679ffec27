// A thread that reads from a pipe. At a line of input, a process is started that writes to it (`wake`), and its pid
// printed.

#include "doze.h"

NOIPA static void wake_on_and_on(void) {
    const struct timespec time = {0, 2000000};
    for (;;) {
        nanosleep(&time, 0);
        if (write(1, "x", 1) != 1) die("write");
    }
}

NOIPA static void waking_inner(void) {
    wake_on_and_on();
    STAY;
}

NOIPA static void waking_outer(void) {
    waking_inner();
    STAY;
}

NOIPA static void read_on_and_on(int fd) {
    char byte;
    while (read(fd, &byte, 1) == 1) STAY;
}

static void *read_pipe(void *fd) {
    prctl(PR_SET_NAME, "reader");
    read_on_and_on((int)(long)fd);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        waking_outer();
        return 0;
    }
    int fds[2];
    pthread_t thread;
    if (pipe(fds) != 0) die("pipe");
    if (pthread_create(&thread, 0, read_pipe, (void *)(long)fds[0]) != 0) die("pthread_create");
    settle();
    say("ready");
    listen();
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fds[1], 1);
        execl(argv[0], argv[0], "wake", (char *)0);
        die("execl");
    }
    settle();
    say("ready");
    printf("%d\n", (int)child);
    fflush(stdout);
    pthread_join(thread, 0);
    return 0;
}
