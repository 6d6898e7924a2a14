//go:build !amd64

package tunnel

import "testing"

// eachChecksum runs a test or benchmark once: there is one checksum.
func eachChecksum[T interface {
	*testing.T | *testing.B
	Run(string, func(T)) bool
}](t T, run func(T)) {
	t.Run("go", run)
}
