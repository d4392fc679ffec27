// A library whose function NAME sleeps for a while.

#include <time.h>

__attribute__((noipa)) static void nap(void) {
    const struct timespec time = {0, 2000000};
    for (int i = 0; i < COUNT; i++) nanosleep(&time, 0);
    __asm__ volatile("" ::: "memory");
}

__attribute__((noipa)) void NAME(void) {
#ifdef SHIFTED
    // Other code and another frame than in the first such library.
    char memory[SHIFTED];
    __asm__ volatile("" ::"r"(memory) : "memory");
#endif
    nap();
    __asm__ volatile("" ::: "memory");
}
