// Pairs of arguments: a library, and its function. At each line of input, the next library is loaded, its function
// called, and the library unloaded; the last function never returns.

#include "doze.h"
#include <dlfcn.h>

NOIPA static void call(void (*function)(void)) {
    function();
    STAY;
}

int main(int argc, char **argv) {
    say("ready");
    for (int i = 1; i + 1 < argc; i += 2) {
        listen();
        void *library = dlopen(argv[i], RTLD_NOW);
        void (*function)(void) = library ? (void (*)(void))dlsym(library, argv[i + 1]) : 0;
        if (!function) die(argv[i]);
        fprintf(stdout, "%p\n", (void *)function);
        fflush(stdout);
        call(function);
        dlclose(library);
        say("ready");
    }
    return 0;
}
