package tunnel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Every length up to some cache lines at every alignment, then random lengths up to the longest packet; random bytes, and those that
// carry most or nothing.
func TestChecksumEqualsSlowTwin(t *testing.T) {
	eachChecksum(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for _, data := range checksumData(r, maxPacket+64) {
			for length := range 600 {
				for start := range 64 {
					checkChecksum(t, data[start:start+length], slowChecksum(data[start:start+length]))
				}
			}
			for range 200 {
				start := r.IntN(64)
				b := data[start : start+r.IntN(maxPacket)]
				checkChecksum(t, b, slowChecksum(b))
			}
		}
	})
}

// Lengths up to the longest packet, and some more: every one up to 4 KB, then those that leave each rest behind blocks of any size.
func TestChecksumOfLengths(t *testing.T) {
	const longest = 70_000
	data := randomBytes(rand.New(rand.NewPCG(3, 4)), longest)
	eachChecksum(t, func(t *testing.T) {
		sum := uint32(0) // of the bytes before length, as slowChecksum's
		for length := range longest {
			if length <= 4096 || length%11 == 0 {
				checkChecksum(t, data[:length], ^fold(sum))
			}
			word := uint32(data[length])
			if length%2 == 0 {
				word <<= 8
			}
			sum = uint32(fold(sum + word))
		}
	})
}

// A checksum reads no byte before or behind its data: there is no memory.
func TestChecksumReadsNothingElse(t *testing.T) {
	page := os.Getpagesize()
	memory, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	data := memory[page : 2*page]
	copy(data, randomBytes(rand.New(rand.NewPCG(5, 6)), page))
	for _, wall := range [][]byte{memory[:page], memory[2*page:]} {
		if err := unix.Mprotect(wall, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	for length := range page + 1 {
		for _, b := range [][]byte{data[:length], data[page-length:]} {
			checkChecksum(t, b, slowChecksum(b))
		}
	}
}

func FuzzChecksum(f *testing.F) {
	f.Add([]byte{1}, uint8(0))
	f.Add(randomBytes(rand.New(rand.NewPCG(7, 8)), 1420), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, start uint8) {
		b := data[min(int(start), len(data)):]
		eachChecksum(t, func(t *testing.T) { checkChecksum(t, b, slowChecksum(b)) })
	})
}

func checkChecksum(t *testing.T, b []byte, want uint16) {
	t.Helper()
	if got := checksum(b); got != want {
		t.Fatalf("checksum of %d bytes: got %04x, want %04x", len(b), got, want)
	}
}

// checksumData returns n bytes each of a kind.
func checksumData(r *rand.Rand, n int) [][]byte {
	return [][]byte{randomBytes(r, n), bytes.Repeat([]byte{0xff}, n), make([]byte, n)}
}

func BenchmarkChecksum(b *testing.B) {
	for _, size := range []int{40, 64, 128, 256, 1400, 65535} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			data := randomBytes(rand.New(rand.NewPCG(1, 2)), size)
			eachChecksum(b, func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					checksum(data)
				}
			})
		})
	}
}
