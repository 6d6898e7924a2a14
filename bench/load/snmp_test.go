package load

import "testing"

func TestDatagrams(t *testing.T) {
	const text = `Ip: Forwarding DefaultTTL
Ip: 1 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors
Udp: 1000 7 33 5 30 2
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors
UdpLite: 9 9 9 9 9 9
`
	if got, err := datagrams(text); err != nil || got != 1030 {
		t.Errorf("got %d %v, want 1030", got, err)
	}
	for _, text := range []string{"", "Udp: InDatagrams RcvbufErrors\n", "Udp: InDatagrams\nUdp: 5\n", "Udp: InDatagrams RcvbufErrors\nUdp: 5 x\n"} {
		if got, err := datagrams(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}
