//go:build !amd64

package tunnel

// sumWide leaves all of b to onesSum.
func sumWide(b []byte) (sum uint64, rest []byte) { return 0, b }
