package lab

import (
	"encoding/binary"
	"math/rand/v2"
)

// fill writes bytes that depend on their position and on the seed, so that a
// byte that moved, or that belongs to another message, is noticed.
func fill(b []byte, seed uint64) {
	random := rand.NewPCG(seed, 0)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, random.Uint64())
		b = b[8:]
	}
	for i := range b {
		b[i] = byte(random.Uint64())
	}
}
