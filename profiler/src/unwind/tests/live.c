/* A program that stops in a system call, deep in frames of every kind that has a rule of its own.
   An `e` in its argument: also those with expressions. An `s`: a signal interrupts it on the way. */
#define _GNU_SOURCE
#include <alloca.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile int never;
#define NOINLINE __attribute__((noinline, noclone))

NOINLINE int block(void) {
    char byte;
    int count = write(1, "r", 1) + read(0, &byte, 1);
    return count + never;
}

/* The stack pointer finds the CFA, rbx is saved. */
NOINLINE int recurse(int n, int (*last)(void)) {
    volatile int local[5] = {n};
    int result = n == 0 ? last() : recurse(n - 1, last);
    return result + local[never];
}

/* The frame pointer finds the CFA. */
NOINLINE int variable(int n, int (*last)(void)) {
    char *memory = alloca(n);
    memset(memory, n, n);
    int result = recurse(3, last);
    return result + memory[never];
}

/* The stack is aligned. */
NOINLINE int aligned(int n, int (*last)(void)) {
    _Alignas(128) volatile char local[256];
    local[n] = 1;
    int result = variable(n + 1, last);
    return result + local[never];
}

/* The same, with variable size: GCC finds the CFA by an expression. */
NOINLINE int aligned_variable(int n, int (*last)(void), int a, int b, int c, int d, int on_stack) {
    _Alignas(128) volatile char local[256];
    char *memory = alloca(n + on_stack);
    memset(memory, n, n);
    local[n] = memory[never] + a + b + c + d;
    int result = aligned(n, last);
    return result + local[never] + memory[never];
}

/* It is called by its caller's last instruction. */
NOINLINE __attribute__((noreturn)) void last_call(int (*last)(void)) {
    aligned_variable(7, last, 1, 2, 3, 4, 5);
    _exit(0);
}

NOINLINE __attribute__((noreturn)) void calls_last(int (*last)(void)) {
    last_call(last);
}

/* A signal interrupts its first instruction, so that the byte before is of another function. */
int trap(void);
__asm__(".text\n.p2align 4\n.type trap, @function\ntrap: .cfi_startproc\nud2\nret\n.cfi_endproc\n"
        ".size trap, .-trap\n");

static void handler(int number) {
    recurse(number - SIGILL + 4, block);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 1;
    stack_t stack = {.ss_sp = malloc(1 << 17), .ss_size = 1 << 17};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGILL, &action, NULL);
    int (*last)(void) = strchr(argv[1], 's') ? trap : block;
    if (strchr(argv[1], 'e'))
        calls_last(last);
    return aligned(7, last);
}
