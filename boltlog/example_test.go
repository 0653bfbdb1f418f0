package boltlog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/boltlog"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	log, err := boltlog.Open(filepath.Join(dir, "documents.db"))
	if err != nil {
		panic(err)
	}
	defer log.Close()

	id := realtime.DocumentID{Tenant: "acme", Document: "doc1"}
	op := realtime.SequencedMessage{SequenceNumber: 1, ClientID: "a", Type: "op", JSON: []byte(`{"sequenceNumber":1}`)}
	fmt.Println(log.Append(context.Background(), id, []realtime.SequencedMessage{op}))
	fmt.Println(log.Append(context.Background(), id, []realtime.SequencedMessage{op}))
	// Output:
	// <nil>
	// realtime: sequence number taken
}
