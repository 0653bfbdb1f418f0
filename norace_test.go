//go:build !race

package realtime

// raceEnabled: see race_test.go.
const raceEnabled = false
