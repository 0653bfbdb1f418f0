package main

import (
	"testing"

	"github.com/seed-58bc6ac1/realtime/examples/internal/checks"
)

func TestEveryCheckHasItsTestAndItsRowInTheDocumentation(t *testing.T) {
	checks.Table(t, ". Documents", 129)
}
