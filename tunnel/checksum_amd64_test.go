package tunnel

import "testing"

// eachChecksum runs a test or benchmark with the wide registers, if this processor has them, and without.
func eachChecksum[T interface {
	*testing.T | *testing.B
	Cleanup(func())
	Run(string, func(T)) bool
}](t T, run func(T)) {
	had := hasWide
	t.Cleanup(func() { hasWide = had })
	if had {
		t.Run("avx2", run)
	}
	hasWide = false
	t.Run("go", run)
}
