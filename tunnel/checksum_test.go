package tunnel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// Every length up to some cache lines at every alignment, then random lengths up to the longest packet; random bytes, and those that
// carry most or nothing.
func TestChecksumEqualsSlowTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random, ones, zeros := randomBytes(r, maxPacket+8), bytes.Repeat([]byte{0xff}, maxPacket+8), make([]byte, maxPacket+8)
	check := func(b []byte) {
		t.Helper()
		if got, want := checksum(b), slowChecksum(b); got != want {
			t.Fatalf("checksum of %d bytes: got %04x, want %04x", len(b), got, want)
		}
	}
	for _, data := range [][]byte{random, ones, zeros} {
		for length := range 300 {
			for start := range 8 {
				check(data[start : start+length])
			}
		}
		for range 200 {
			start := r.IntN(8)
			check(data[start : start+r.IntN(maxPacket)])
		}
		check(data[:maxPacket])
	}
}

func BenchmarkChecksum(b *testing.B) {
	for _, size := range []int{40, 64, 256, 1400, 65535} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			data := randomBytes(rand.New(rand.NewPCG(1, 2)), size)
			b.SetBytes(int64(size))
			for b.Loop() {
				checksum(data)
			}
		})
	}
}
