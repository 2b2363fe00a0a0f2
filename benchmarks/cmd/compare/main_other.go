//go:build !linux

// Command compare needs Linux: it is written on epoll and /proc.
package main

import "log"

func main() { log.Fatal("the benchmarks need Linux") }
