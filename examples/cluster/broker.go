package main

import "github.com/seed-58bc6ac1/realtime"

// openBroker returns the option that makes a process one node of many.
func openBroker(url string) (realtime.Option, func(), error) {
	return realtime.WithQueue(256, 1<<20), func() {}, nil
}
