package realtime

import (
	"context"
	"testing"
	"testing/synctest"
)

// heldOrder has Attend wait until it is told to go on.
type heldOrder struct {
	DocumentOrder
	held chan struct{}
}

type heldBroker struct {
	lonelyBroker
	order *heldOrder
}

func (b heldBroker) Documents() DocumentOrder { return b.order }

func (o *heldOrder) Attend(ctx context.Context, id DocumentID, tell func(*DocumentNews)) (*DocumentStanding, func(), error) {
	<-o.held
	return o.DocumentOrder.Attend(ctx, id, tell)
}

// TestANodeIsRebornWhileASessionStarts: the session that is starting has nobody whom the
// others could have had leave, and no hearing that could be ended.
func TestANodeIsRebornWhileASessionStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &heldOrder{DocumentOrder: NewMemoryOrder()(), held: make(chan struct{})}
		s, err := New(WithBroker(heldBroker{lonelyBroker{newMemoryBroker()}, o}))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown(t.Context())
		d := s.Documents("document:{tenant}:{document}", DocumentTenants(NewTenants()))
		found := make(chan error)
		go func() {
			_, err := d.Session(t.Context(), "acme", "1")
			found <- err
		}()
		synctest.Wait()
		d.registry.reborn()
		synctest.Wait()
		close(o.held)
		if err := <-found; err == nil {
			t.Error("the session that was starting goes on, though its node is another one now")
		}
		if _, err := d.Session(t.Context(), "acme", "1"); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
}
