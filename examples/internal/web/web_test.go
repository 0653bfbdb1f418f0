package web

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"testing"
)

// The pages prove something only as long as their client is the one that Phoenix
// publishes.
func TestPagesAreOnTheStockClient(t *testing.T) {
	text, err := fs.ReadFile(phoenix, "phoenix/phoenix.mjs")
	if err != nil {
		t.Fatal(err)
	}
	const want = "36e6f701a40a47988a4810a308cf54f9b441e5c4b68b83797fec4f69becb1627" // phoenix 1.8.16
	if got := fmt.Sprintf("%x", sha256.Sum256(text)); got != want {
		t.Errorf("sha256 is %s, want %s", got, want)
	}
	if _, err := fs.ReadFile(phoenix, "phoenix/LICENSE.md"); err != nil {
		t.Error(err)
	}
}
