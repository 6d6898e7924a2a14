package load

import (
	"errors"
	"math/rand/v2"
	"testing"

	"twill/bench/report"
)

func TestMetricKeysAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, w := range All(Options{}) {
		for _, m := range w.Metrics() {
			if other, found := seen[m.Key]; found {
				t.Errorf("%s and %s both measure %s", w.Name(), other, m.Key)
			}
			seen[m.Key] = w.Name()
		}
	}
}

func TestParseIperf(t *testing.T) {
	const good = `{"start":{"version":"iperf 3.12"},"end":{
		"sum_sent":{"seconds":1.00,"bytes":2000,"packets":20,"retransmits":3},
		"sum_received":{"seconds":1.01,"bytes":1900,"packets":20,"lost_packets":1}}}`
	r, err := parseIperf([]byte(good), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.End.Sent != (iperfSum{Seconds: 1, Bytes: 2000, Packets: 20, Retransmits: 3}) {
		t.Errorf("sent %+v", r.End.Sent)
	}
	if r.End.Received != (iperfSum{Seconds: 1.01, Bytes: 1900, Packets: 20}) {
		t.Errorf("received %+v", r.End.Received)
	}

	exit := errors.New("exit status 1")
	for _, tt := range []struct {
		text    string
		exit    error
		refused bool
	}{
		{`{"end":{},"error":"unable to connect to server: Connection refused"}`, exit, true},
		{`{"end":{},"error":"the server is busy running a test. try again later"}`, exit, false},
		{`{"end":{}}`, exit, false},
		{``, exit, false},
	} {
		_, err := parseIperf([]byte(tt.text), tt.exit)
		if err == nil || errors.Is(err, errRefused) != tt.refused {
			t.Errorf("%q: got error %v, want one that is a refusal: %t", tt.text, err, tt.refused)
		}
	}
}

// TestHighest compares the search with what it seeks, over paths that lose
// everything above some rate, with senders of any speed.
func TestHighest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		limit := slowest + r.Float64()*(fastest/2-slowest)
		sender := slowest + r.Float64()*fastest
		tries, asked := 0, 0.0
		got, err := highest(func(rate float64) (float64, bool, error) {
			tries++
			asked = max(asked, rate)
			sent := min(rate, sender)
			return sent, sent <= limit, nil
		})
		want := min(limit, sender)
		if err != nil || got > want || got < want*0.87 {
			t.Fatalf("path of %.0f and sender of %.0f: got %.0f %v", limit, sender, got, err)
		}
		if tries > 12 || asked > 2*sender/senderLimit {
			t.Fatalf("path of %.0f and sender of %.0f: %d tries of up to %.0f", limit, sender, tries, asked)
		}
	}
}

func TestHighestOfNothing(t *testing.T) {
	got, err := highest(func(rate float64) (float64, bool, error) { return rate, false, nil })
	if got != 0 || err != nil {
		t.Errorf("on a path that loses all: %g %v, want 0", got, err)
	}
	broken := errors.New("broken")
	if _, err := highest(func(float64) (float64, bool, error) { return 0, false, broken }); !errors.Is(err, broken) {
		t.Errorf("got error %v, want %v", err, broken)
	}
}

func TestRTTValues(t *testing.T) {
	v, err := rtt{}.values([]float64{10, 30, 20}, 1)
	want := report.Values{"rtt_p50": 20, "rtt_p99": 29.8, "rtt_max": 30, "rtt_lost": 25}
	if err != nil || len(v) != len(want) {
		t.Fatalf("got %v %v", v, err)
	}
	for key, x := range want {
		if d := v[key] - x; d > 1e-9 || d < -1e-9 {
			t.Errorf("%s is %g, want %g", key, v[key], x)
		}
	}
	if _, err := (rtt{}).values(nil, 5); err == nil {
		t.Error("no answer at all is no error")
	}
}
