// Threads that sleep in page faults: at any instruction, and not in a system call. A server (userfaultfd) brings
// the pages, each after a while. The argument is the path of libfar.so.

#include "doze.h"
#include <alloca.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { PAGE = 4096, STACK = 64 * PAGE };

static int faults;
// The page that has a content, and it; all others are of zeros.
static char *far_page;
static char far_content[PAGE];

// The pages are absent from now on, and after each MADV_DONTNEED.
static void make_absent(void *from, size_t length) {
    struct uffdio_register range = {
        .range = {.start = (uintptr_t)from, .len = length},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (ioctl(faults, UFFDIO_REGISTER, &range) != 0) die("UFFDIO_REGISTER");
}

static void *serve(void *unused) {
    static char content[PAGE] __attribute__((aligned(PAGE)));
    (void)unused;
    prctl(PR_SET_NAME, "server");
    for (;;) {
        struct uffd_msg fault;
        if (read(faults, &fault, sizeof fault) != sizeof fault) die("read");
        const struct timespec time = {0, 300000};
        nanosleep(&time, 0);
        char *page = (char *)(fault.arg.pagefault.address & -PAGE);
        if (page == far_page) {
            memcpy(content, far_content, PAGE);
        } else {
            memset(content, 0, PAGE);
        }
        struct uffdio_copy copy = {.dst = (uintptr_t)page, .src = (uintptr_t)content, .len = PAGE};
        // Another thread may have found the page absent too.
        ioctl(faults, UFFDIO_COPY, &copy);
    }
    return 0;
}

// libc's function calls that of the vDSO, which writes to the page.
NOIPA static void ask_time(struct timespec *time) {
    clock_gettime(CLOCK_MONOTONIC, time);
    STAY;
}

static void *in_vdso(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "vdso");
    void *page = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    make_absent(page, PAGE);
    for (;;) {
        ask_time(page);
        madvise(page, PAGE, MADV_DONTNEED);
    }
    return 0;
}

// The stub in the library's procedure linkage table reads where to jump to.
static void *in_plt(void *path) {
    prctl(PR_SET_NAME, "plt");
    void *library = dlopen(path, RTLD_LAZY | RTLD_GLOBAL);
    if (!library) die(dlerror());
    void (*call_far)(void) = dlsym(library, "call_far");
    char *(*far_table)(void) = dlsym(library, "far_table");
    call_far();
    char *page = (char *)((uintptr_t)far_table() & -PAGE);
    memcpy(far_content, page, PAGE);
    far_page = page;
    mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    make_absent(page, PAGE);
    for (;;) {
        madvise(page, PAGE, MADV_DONTNEED);
        call_far();
    }
    return 0;
}

// Each page of the stack is met for the first time by whatever instruction comes to it: in a prologue, at a call.
NOIPA static long descend(long depth, long a, long b) {
    volatile char frame[1000];
    frame[0] = frame[999] = (char)depth;
    long below = depth > 0 ? descend(depth - 1, b, a) : 0;
    STAY;
    return below + a * depth + b + frame[0];
}

static char *growing;
NOIPA static void descend_from(size_t offset) {
    void *skipped = alloca(offset);
    __asm__ volatile("" ::"r"(skipped) : "memory");
    descend(6, 2, 3);
    STAY;
}

static void *on_growing_stack(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "growing");
    for (size_t offset = 0;; offset = (offset + 16) % PAGE) {
        descend_from(offset);
        char *here = __builtin_frame_address(0);
        const size_t used = (size_t)((here - growing) & -PAGE) - PAGE;
        madvise(growing, used, MADV_DONTNEED);
    }
    return 0;
}

static pthread_t start(void *(*function)(void *), void *argument, pthread_attr_t *attributes) {
    pthread_t thread;
    if (pthread_create(&thread, attributes, function, argument) != 0) die("pthread_create");
    return thread;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    faults = syscall(SYS_userfaultfd, O_CLOEXEC);
    if (faults < 0) die("userfaultfd");
    if (ioctl(faults, UFFDIO_API, &(struct uffdio_api){.api = UFFD_API}) != 0) die("UFFDIO_API");
    start(serve, 0, 0);
    start(in_vdso, 0, 0);
    start(in_plt, argv[1], 0);
    growing = mmap(0, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    make_absent(growing, STACK);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, growing, STACK);
    start(on_growing_stack, 0, &attributes);
    settle();
    say("ready");
    outer();
}
