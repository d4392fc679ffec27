// A library whose function calls another by way of the procedure linkage table.

__attribute__((noipa)) void far_away(void) { __asm__ volatile("" ::: "memory"); }

__attribute__((noipa)) void call_far(void) {
    far_away();
    __asm__ volatile("" ::: "memory");
}

extern char table[] __asm__("_GLOBAL_OFFSET_TABLE_") __attribute__((visibility("hidden")));

char *far_table(void) { return table; }
