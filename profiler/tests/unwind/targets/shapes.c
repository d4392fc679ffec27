// One thread for each argument, which sleeps in a stack of that shape. The name of the thread is the argument.

#include "doze.h"
#include <alloca.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <ucontext.h>

static void use(volatile void *memory) {
    __asm__ volatile("" ::"r"(memory) : "memory");
}

// The system call in the function itself, which needs no frame.
NOIPA static void raw(void) {
    static const struct timespec time = {0, 2000000};
    for (;;) {
#ifdef __aarch64__
        register long number __asm__("x8") = SYS_nanosleep;
        register const void *first __asm__("x0") = &time;
        register long second __asm__("x1") = 0;
        __asm__ volatile("svc #0" : "+r"(first) : "r"(number), "r"(second) : "memory");
#else
        long result;
        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "0"(SYS_nanosleep), "D"(&time), "S"(0)
                         : "rcx", "r11", "memory");
#endif
    }
}

NOIPA static int recursion(int depth) {
    if (depth <= 1) {
        doze();
        STAY;
        return 1;
    }
    int below = recursion(depth - 1);
    STAY;
    return below + 1;
}

static void recursion20(void) { recursion(20); }
static void recursion60(void) { recursion(60); }
static void recursion300(void) { recursion(300); }

// So much that is needed after the call that all registers that a callee saves are in use, rbp too.
NOIPA static long registers(long a, long b, long c, long d, long e, long f) {
    long g = a * b, h = c * d, i = e * f, j = a ^ f;
    outer();
    STAY;
    return (a - b) * (c - d) * (e - f) * (g - h) * (i - j);
}

static void in_registers(void) { registers(1, 2, 3, 4, 5, 6); }

// The same with a frame pointer of 0, which without call frame information is the end.
NOIPA static void headless(void) {
    static const struct timespec time = {0, 2000000};
    for (;;) {
#ifdef __aarch64__
        register long number __asm__("x8") = SYS_nanosleep;
        register const void *first __asm__("x0") = &time;
        register long second __asm__("x1") = 0;
        __asm__ volatile("mov x20, x29\n\tmov x29, xzr\n\tsvc #0\n\tmov x29, x20"
                         : "+r"(first)
                         : "r"(number), "r"(second)
                         : "x20", "memory");
#else
        long result;
        __asm__ volatile("mov %%rbp, %%r12\n\txor %%ebp, %%ebp\n\tsyscall\n\tmov %%r12, %%rbp"
                         : "=a"(result)
                         : "0"(SYS_nanosleep), "D"(&time), "S"(0)
                         : "rcx", "r11", "r12", "memory");
#endif
    }
}

// The frame pointer (x29, rbp) holds what is no address.
__asm__(".text\n"
#ifdef __aarch64__
        ".type rubbish, %function\n"
        "rubbish:\n"
        ".cfi_startproc\n"
        "stp x29, x30, [sp, -16]!\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset 29, -16\n"
        ".cfi_offset 30, -8\n"
        "mov x29, #0xdead\n"
        "blr x0\n"
        "ldp x29, x30, [sp], 16\n"
        ".cfi_restore 30\n"
        ".cfi_restore 29\n"
        ".cfi_def_cfa_offset 0\n"
#else
        ".type rubbish, @function\n"
        "rubbish:\n"
        ".cfi_startproc\n"
        "push %rbp\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset %rbp, -16\n"
        "mov $0xdeadbeef, %ebp\n"
        "call *%rdi\n"
        "pop %rbp\n"
        ".cfi_def_cfa_offset 8\n"
#endif
        "ret\n"
        ".cfi_endproc\n"
        ".size rubbish, . - rubbish\n");
extern void rubbish(void (*function)(void));

static void in_rubbish(void) {
    rubbish(outer);
    STAY;
}

// The stack is realigned for AVX, and the caller's found by an expression: arguments on it are still to be had.
NOIPA static int realigned(int a, int b, int c, int d, int e, int f, int g, size_t size) {
    char vector[64] __attribute__((aligned(64)));
    char *any = alloca(size);
    use(vector);
    use(any);
    outer();
    STAY;
    return a + b + c + d + e + f + g;
}

static void in_realigned(void) {
    realigned(1, 2, 3, 4, 5, 6, 7, 333);
    STAY;
}

NOIPA static void on_alloca(size_t size) {
    if (size < 64) {
        outer();
        STAY;
        return;
    }
    char *memory = alloca(size);
    use(memory);
    on_alloca(size / 2);
    STAY;
}

static void in_alloca(void) { on_alloca(50000); }

// More than an immediate of 16 bits tells.
NOIPA static void large(void) {
    char memory[300000];
    use(memory);
    outer();
    STAY;
}

NOIPA static void on_signal(int signal) {
    (void)signal;
    outer();
    STAY;
}

// A signal that the thread sends to itself.
static void handler(void) {
    raise(SIGUSR1);
    STAY;
}

// A signal that arrives anywhere.
static volatile unsigned long spins;
NOIPA static void spin(void) {
    for (;;) spins = spins * 3 + 1;
}

NOIPA static void interrupted(void) {
    spin();
    STAY;
}

static void use_signal_stack(void *memory, size_t size) {
    stack_t stack = {.ss_sp = memory, .ss_size = size};
    if (sigaltstack(&stack, 0) != 0) die("sigaltstack");
    raise(SIGUSR2);
    STAY;
}

// In the program's data, below all threads' stacks.
static char below[65536];
NOIPA static void alt_below(void) {
    use_signal_stack(below, sizeof below);
    STAY;
}

// On the first thread's stack, above all others.
static char *above;
NOIPA static void alt_above(void) {
    use_signal_stack(above, 65536);
    STAY;
}

#ifdef __GLIBC__
// glibc's coroutines begin at a function that says that it has no caller.
static ucontext_t home, coroutine;
NOIPA static void context(void) {
    static char stack[65536];
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = sizeof stack;
    coroutine.uc_link = &home;
    makecontext(&coroutine, outer, 0);
    swapcontext(&home, &coroutine);
    STAY;
}
#else
static void context(void) {}
#endif

// Another stack, whose first function says that it has no caller.
__asm__(".text\n"
#ifdef __aarch64__
        ".type hop_entry, %function\n"
        "hop_entry:\n"
        ".cfi_startproc\n"
        ".cfi_undefined 30\n"
        "mov x29, xzr\n"
        "bl outer\n"
        "brk #0\n"
        ".cfi_endproc\n"
        ".size hop_entry, . - hop_entry\n"
        ".type hop_to, %function\n"
        "hop_to:\n"
        ".cfi_startproc\n"
        "mov sp, x0\n"
        "b hop_entry\n"
#else
        ".type hop_entry, @function\n"
        "hop_entry:\n"
        ".cfi_startproc\n"
        ".cfi_undefined %rip\n"
        "xor %ebp, %ebp\n"
        "call outer\n"
        "hlt\n"
        ".cfi_endproc\n"
        ".size hop_entry, . - hop_entry\n"
        ".type hop_to, @function\n"
        "hop_to:\n"
        ".cfi_startproc\n"
        "mov %rdi, %rsp\n"
        "jmp hop_entry\n"
#endif
        ".cfi_endproc\n"
        ".size hop_to, . - hop_to\n");
extern void hop_to(void *stack);

NOIPA static void hop(void) {
    static char stack[65536] __attribute__((aligned(64)));
    hop_to(stack + sizeof stack);
    STAY;
}

// Another stack, whose first function has no call frame information, and whose frame pointer is none.
__asm__(".text\n"
#ifdef __aarch64__
        ".type wild_entry, %function\n"
        "wild_entry:\n"
        "mov sp, x0\n"
        "mov x29, #1\n"
        "bl outer\n"
        "brk #0\n"
#else
        ".type wild_entry, @function\n"
        "wild_entry:\n"
        "mov %rdi, %rsp\n"
        "mov $1, %ebp\n"
        "call outer\n"
        "hlt\n"
#endif
        ".size wild_entry, . - wild_entry\n");
extern void wild_entry(void *stack);

NOIPA static void wild(void) {
    static char stack[65536] __attribute__((aligned(64)));
    wild_entry(stack + sizeof stack - 64);
    STAY;
}

static const struct {
    const char *name;
    void (*function)(void);
} shapes[] = {
    {"plain", outer},          {"raw", raw},
    {"recursion20", recursion20}, {"recursion60", recursion60},
    {"recursion300", recursion300}, {"registers", in_registers},
    {"headless", headless},    {"rubbish", in_rubbish},
    {"realigned", in_realigned},
    {"alloca", in_alloca},     {"large", large},
    {"handler", handler},      {"interrupted", interrupted},
    {"alt_below", alt_below},  {"alt_above", alt_above},
    {"context", context},      {"hop", hop},
    {"wild", wild},
};

static void *run(void *name) {
    prctl(PR_SET_NAME, name);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (strcmp(shapes[i].name, name) == 0) shapes[i].function();
    }
    fprintf(stderr, "no shape %s\n", (char *)name);
    _exit(1);
}

int main(int argc, char **argv) {
    char memory[65536];
    above = memory;
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal}, 0);
    sigaction(SIGUSR2, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_ONSTACK}, 0);
    for (int i = 1; i < argc; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, run, argv[i]) != 0) die("pthread_create");
        settle();
        if (strcmp(argv[i], "interrupted") == 0) pthread_kill(thread, SIGUSR1);
    }
    settle();
    say("ready");
    outer();
}
