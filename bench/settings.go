package main

import "time"

// settings are the flags.
type settings struct {
	works   []*work
	peers   []*peer
	base    string
	subject string
	rounds  int
	scale   scale
	out     string
	name    string
	limit   time.Duration
	files   uint64 // the most open files of a process
}
