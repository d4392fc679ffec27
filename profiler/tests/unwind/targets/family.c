// At a line of input: `fork` makes a child that sleeps beside its parent, `exec PROGRAM ARGUMENT…` becomes another
// program after a while.

#include "doze.h"

NOIPA static void nap(void) {
    const struct timespec time = {0, 2000000};
    for (int i = 0; i < 50; i++) nanosleep(&time, 0);
    STAY;
}

NOIPA static void become(char **argv) {
    nap();
    execv(argv[0], argv);
    die("execv");
}

NOIPA static void in_child(void) {
    prctl(PR_SET_NAME, "child");
    outer();
    STAY;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    say("ready");
    listen();
    if (strcmp(argv[1], "exec") == 0) become(argv + 2);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        in_child();
    }
    settle();
    say("ready");
    printf("%d\n", (int)child);
    fflush(stdout);
    outer();
}
