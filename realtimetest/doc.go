// Package realtimetest helps to test programs that use realtime.
package realtimetest
