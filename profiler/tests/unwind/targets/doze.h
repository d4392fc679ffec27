// What the targets in C and C++ have in common.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

// Neither inlined nor cloned nor merged.
#define NOIPA __attribute__((noipa))
// Not each target needs each function.
#define SHARED __attribute__((unused)) static
// At the end of a function: what it called was no tail call.
#define STAY __asm__ volatile("" ::: "memory")

// Sleeps for the rest of its life, 2 ms at a time. Always at the same place: so gdb finds it where it was recorded.
NOIPA SHARED void doze(void) {
    const struct timespec time = {0, 2000000};
    for (;;) nanosleep(&time, 0);
}

NOIPA SHARED void inner(void) {
    doze();
    STAY;
}

NOIPA SHARED void middle(void) {
    inner();
    STAY;
}

NOIPA SHARED void outer(void) {
    middle();
    STAY;
}

SHARED void say(const char *word) {
    puts(word);
    fflush(stdout);
}

SHARED void die(const char *what) {
    perror(what);
    _exit(1);
}

// Waits for the test. Ends with it.
SHARED void listen(void) {
    if (getchar() == EOF) _exit(0);
}

// Time enough for a thread to have come to where it sleeps.
SHARED void settle(void) {
    usleep(50000);
}
