package demo

import (
	"testing"

	"twill/internal/lab"
)

// The tests run in a lab, not to build hosts in it, but because its mounts are
// private: one of them puts another device node over /dev/net/tun.
func TestMain(m *testing.M) { lab.Main(m) }
