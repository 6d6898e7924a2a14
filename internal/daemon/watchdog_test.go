package daemon

import "testing"

func TestHanging(t *testing.T) {
	for _, tt := range []struct {
		name        string
		before, now []uint64
		loop        int
		found       bool
	}{
		{"all wait", []uint64{0, 2, 4}, []uint64{0, 2, 4}, 0, false},
		{"busy and getting on", []uint64{1, 3, 5}, []uint64{3, 5, 7}, 0, false},
		{"one at the same burst", []uint64{0, 3, 4}, []uint64{2, 3, 5}, 1, true},
	} {
		if loop, found := hanging(tt.before, tt.now); loop != tt.loop || found != tt.found {
			t.Errorf("%s: got %d, %v; want %d, %v", tt.name, loop, found, tt.loop, tt.found)
		}
	}
}
