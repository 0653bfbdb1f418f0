//go:build race

package realtime

// raceEnabled: under the race detector a sync.Pool drops values at random.
const raceEnabled = true
