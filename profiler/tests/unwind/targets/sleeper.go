// A thread that sleeps in a system call, under functions of the program.
package main

import (
	"fmt"
	"runtime"
	"syscall"
)

//go:noinline
func inner(time *syscall.Timespec) {
	for {
		syscall.Nanosleep(time, nil)
	}
}

//go:noinline
func middle(time *syscall.Timespec) {
	inner(time)
	fmt.Println()
}

//go:noinline
func outer(time *syscall.Timespec) {
	middle(time)
	fmt.Println()
}

func main() {
	runtime.LockOSThread()
	fmt.Println("ready")
	outer(&syscall.Timespec{Nsec: 2000000})
}
