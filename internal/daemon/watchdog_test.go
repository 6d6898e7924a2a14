package daemon

import (
	"testing"
	"time"

	"twill/subnet"
)

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

func TestTurning(t *testing.T) {
	start := time.Now()
	loop := turning{turns: 5, since: start}
	for _, tt := range []struct {
		turns   uint64
		at      time.Duration
		healthy bool
	}{
		{5, subnet.LongestTurn, true},
		{6, subnet.LongestTurn + time.Second, true},
		{6, 2 * subnet.LongestTurn, true},
		{6, 2*subnet.LongestTurn + 2*time.Second, false},
		{6, 3 * subnet.LongestTurn, false},
		{7, 3 * subnet.LongestTurn, true},
	} {
		if err := loop.see(tt.turns, start.Add(tt.at)); (err == nil) != tt.healthy {
			t.Errorf("at turn %d after %v: %v, want healthy %v", tt.turns, tt.at, err, tt.healthy)
		}
	}
}
