package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// watchedLog is the program's log.
type watchedLog struct {
	mu     sync.Mutex
	text   bytes.Buffer
	waiter chan struct{} // closed at the next write, if not nil
}

func (l *watchedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiter != nil {
		close(l.waiter)
		l.waiter = nil
	}
	return l.text.Write(p)
}

// wait returns once a line of the log holds all the words.
func (l *watchedLog) wait(t *testing.T, words ...string) {
	t.Helper()
	late := time.After(patience)
	for {
		found, changed := l.find(words)
		if found {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("no line of the log has %q", words)
		}
	}
}

// find reports whether a line holds all the words, and tells of the next write.
func (l *watchedLog) find(words []string) (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return true, nil
		}
	}
	if l.waiter == nil {
		l.waiter = make(chan struct{})
	}
	return false, l.waiter
}
