package main

import (
	"errors"
	"path/filepath"
	"testing"
)

// everyStore calls f with an empty store of each kind. again closes it and opens
// it anew, if it outlives that.
func everyStore(t *testing.T, f func(t *testing.T, s store, again func() store)) {
	t.Run("memory", func(t *testing.T) {
		s := newMemoryStore()
		f(t, s, func() store { return s })
	})
	t.Run("bolt", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "objects.db")
		open := func() *boltStore {
			s, err := openBoltStore(path)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		t.Cleanup(func() { _ = s.close() })
		f(t, s, func() store {
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			s = open()
			return s
		})
	})
}

func TestStoreKeepsObjectsByTenantAndKind(t *testing.T) {
	everyStore(t, func(t *testing.T, s store, again func() store) {
		blob, empty, tree := newBlob([]byte("[]")), newBlob(nil), newTree(nil)
		if blob.sha != tree.sha {
			t.Fatalf("the ids %s and %s differ, which this test is about", blob.sha, tree.sha)
		}
		for _, objects := range [][]object{{blob, empty}, {blob}, {}} {
			if err := s.put("acme", objects...); err != nil {
				t.Fatal(err)
			}
		}
		s = again()
		for _, row := range []struct {
			tenant string
			object object
			err    error
		}{
			{"acme", blob, nil},
			{"acme", empty, nil},
			{"acme", tree, errNotFound},
			{"acme", newBlob([]byte("other")), errNotFound},
			{"acme", object{kind: kindBlob}, errNotFound},
			{"beta", blob, errNotFound},
			{"", blob, errNotFound},
		} {
			got, err := s.get(row.tenant, row.object.kind, row.object.sha)
			if !errors.Is(err, row.err) || err == nil && string(got) != string(row.object.content) {
				t.Errorf("get %q %s %s: got %q, %v, want %q, %v", row.tenant, row.object.kind, row.object.sha, got, err, row.object.content, row.err)
			}
		}
	})
}

func TestStoreMovesHeadsFromWhatTheyAre(t *testing.T) {
	everyStore(t, func(t *testing.T, s store, again func() store) {
		for _, step := range []struct {
			what string
			do   func() error
			want error
		}{
			{"create", func() error { return s.create("acme", "d", "h1") }, nil},
			{"create again", func() error { return s.create("acme", "d", "h2") }, errTaken},
			{"create without a head", func() error { return s.create("acme", "bare", "") }, nil},
			{"create that again", func() error { return s.create("acme", "bare", "h1") }, errTaken},
			{"move from another", func() error { return s.move("acme", "d", "h0", "h2") }, errMoved},
			{"move from nothing", func() error { return s.move("acme", "d", "", "h2") }, errMoved},
			{"move", func() error { return s.move("acme", "d", "h1", "h2") }, nil},
			{"move twice", func() error { return s.move("acme", "d", "h1", "h2") }, errMoved},
			{"first move", func() error { return s.move("acme", "bare", "", "h3") }, nil},
			{"move of what is not there", func() error { return s.move("acme", "new", "", "h4") }, nil},
			{"move of what is not there from something", func() error { return s.move("acme", "newer", "h4", "h5") }, errMoved},
			{"create of what was moved", func() error { return s.create("acme", "new", "") }, errTaken},
			{"create for another tenant", func() error { return s.create("beta", "d", "") }, nil},
		} {
			if err := step.do(); !errors.Is(err, step.want) {
				t.Errorf("%s: got %v, want %v", step.what, err, step.want)
			}
		}
		s = again()
		for _, row := range []struct {
			tenant, document, head string
			err                    error
		}{
			{"acme", "d", "h2", nil}, {"acme", "bare", "h3", nil}, {"acme", "new", "h4", nil},
			{"acme", "newer", "", errNotFound}, {"beta", "d", "", nil}, {"beta", "bare", "", errNotFound},
			{"gamma", "d", "", errNotFound},
		} {
			if head, err := s.head(row.tenant, row.document); head != row.head || !errors.Is(err, row.err) {
				t.Errorf("head of %s/%s: got %q, %v, want %q, %v", row.tenant, row.document, head, err, row.head, row.err)
			}
		}
	})
}

func TestDurableStoreIsOpenedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "objects.db")
	s, err := openBoltStore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.close() }()
	if second, err := openBoltStore(path); err == nil {
		_ = second.close()
		t.Error("a second process could open the file")
	}
}
