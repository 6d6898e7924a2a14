package tunnel

import "golang.org/x/sys/cpu"

const (
	// wideStep is the length in bytes of which sumAVX2 takes multiples.
	wideStep = 32
	// wideMin is the length in bytes from which it is faster, by BenchmarkChecksum.
	wideMin = 192
)

// hasWide says whether the processor has AVX2, and the system saves its registers.
var hasWide = cpu.X86.HasAVX2

// sumWide adds up the start of b by the processor's wide registers, where that is faster. It returns a sum that onesSum goes on with, and
// what is still to be added.
func sumWide(b []byte) (sum uint64, rest []byte) {
	if len(b) < wideMin || !hasWide {
		return 0, b
	}
	n := len(b) &^ (wideStep - 1)
	return sumAVX2(b[:n]), b[n:]
}

// sumAVX2 returns the sum of the 32-bit words of b, in the machine's order. Its length is a multiple of wideStep, and at most 4 GB.
//
//go:noescape
func sumAVX2(b []byte) uint64
