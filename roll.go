package realtime

import "iter"

// rollBlock is how many entries a block of a roll has: 8 KiB of pointers, which are
// allocated or copied in a microsecond or two.
const rollBlock = 1024

// roll is a list in no order that may become very long. As it grows it copies no
// more than one block, where a slice would copy a million pointers while
// everybody waits, and it gives memory back as it shrinks. Each entry must know its
// index. The zero value is empty. It has no lock of its own.
type roll[T any] struct {
	tail []T   // the newest entries, one block at most
	full [][]T // the older ones, in whole blocks
}

func (r *roll[T]) len() int { return len(r.full)*rollBlock + len(r.tail) }

// blocks returns how many blocks there are for block; the last may be empty.
func (r *roll[T]) blocks() int { return len(r.full) + 1 }

// block returns the entries of one block, not to be kept.
func (r *roll[T]) block(i int) []T {
	if i < len(r.full) {
		return r.full[i]
	}
	return r.tail
}

// all iterates over the entries, which must not change meanwhile.
func (r *roll[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for i := range r.blocks() {
			for _, v := range r.block(i) {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// add appends v and returns its index.
func (r *roll[T]) add(v T) int {
	if n := len(r.tail); n == cap(r.tail) {
		if n == rollBlock {
			r.full = append(r.full, r.tail)
			r.tail = make([]T, 0, rollBlock)
		} else {
			r.tail = append(make([]T, 0, min(max(1, 2*n), rollBlock)), r.tail...)
		}
	}
	r.tail = append(r.tail, v)
	return r.len() - 1
}

// remove takes the entry at index at out. The last entry, which it returns, takes
// its place: from now on it has that index.
func (r *roll[T]) remove(at int) (moved T) {
	if len(r.tail) == 0 {
		n := len(r.full) - 1
		r.tail, r.full[n] = r.full[n], nil
		r.full = r.full[:n]
	}
	end := len(r.tail) - 1
	moved = r.tail[end]
	r.block(at / rollBlock)[at%rollBlock] = moved
	clear(r.tail[end:])
	r.tail = r.tail[:end]
	if c := cap(r.tail); len(r.full) == 0 && c > 64 && end < c/4 {
		r.tail = append(make([]T, 0, c/2), r.tail...)
	}
	return moved
}

// appendTo appends all entries to dst.
func (r *roll[T]) appendTo(dst []T) []T {
	for _, block := range r.full {
		dst = append(dst, block...)
	}
	return append(dst, r.tail...)
}
