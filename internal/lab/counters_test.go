package lab

import "testing"

func TestParseUDPCounters(t *testing.T) {
	const text = `Ip: Forwarding DefaultTTL
Ip: 1 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors
Udp: 1000 7 33 5 30 2
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors
UdpLite: 9 9 9 9 9 9
`
	got, err := parseUDPCounters(text)
	if err != nil || len(got) != 6 || got["InDatagrams"] != 1000 || got["RcvbufErrors"] != 30 || got["SndbufErrors"] != 2 {
		t.Errorf("got %v %v, want the six of Udp", got, err)
	}
	for _, text := range []string{"", "Udp: InDatagrams RcvbufErrors\n", "Udp: InDatagrams RcvbufErrors\nUdp: 5\n", "Udp: InDatagrams RcvbufErrors\nUdp: 5 x\n"} {
		if got, err := parseUDPCounters(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}
